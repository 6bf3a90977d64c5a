"""Maps the tensors of hamer.ckpt onto our modules.

Loading is strict: an error names every tensor that is missing, unknown, or of another shape or type. It needs little
more memory than the weights: the file is mapped, the modules start on the meta device, and each tensor's pages are
returned to the system once it has been copied.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from worker.hamer.checkpoint_file import MappedTensors, read_config, read_tensors, reading
from worker.hamer.config import HamerConfig
from worker.hamer.errors import CheckpointError, WeightsOverflowError
from worker.hamer.mano_pickle import ManoArrays, load_mano
from worker.hamer.modeling.hamer import Hamer
from worker.hamer.modeling.head import ManoHead
from worker.hamer.modeling.mano import Mano, ManoTopology
from worker.hamer.modeling.vit import ViT
from worker.hamer.recipes import Tensors, hand_of_checkpoint, hand_of_pickle, hand_weights, network_weights
from worker.hamer.sizes import IGNORED, HamerSizes, Shape, infer_sizes, mano_shapes, name_of, network_shapes
from worker.hands.outputs import BETAS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Precision:
    """The number formats of the backbone; head and hand model are always float32.

    Attributes:
        name: as users write it.
        matrices: dtype of the weights of matrix products.
        stream: dtype of the residual stream and its LayerNorms.
    """

    name: str
    matrices: torch.dtype
    stream: torch.dtype


FULL = Precision("float32", torch.float32, torch.float32)
HALF = Precision("float16", torch.float16, torch.float16)
# bfloat16 has three bits less than float16: a residual stream in it would cost more accuracy than it saves time.
BRAIN = Precision("bfloat16", torch.bfloat16, torch.float32)


def load_hamer(
    checkpoint: Path, *, mano: Path | None = None, precision: Precision = FULL, device: torch.device | str = "cpu"
) -> Hamer:
    """Loads the official checkpoint.

    Args:
        checkpoint: hamer.ckpt, with model_config.yaml beside it or in the folder above.
        mano: MANO_RIGHT.pkl. Needed if the checkpoint has no hand model (the official one has); otherwise it is only
            compared with the checkpoint's.
        precision: of the backbone.
        device: of the weights.

    Raises:
        CheckpointError: a file is missing or damaged, or tensors are missing, unknown or misshapen; all are named.
        WeightsOverflowError: the weights exceed the range of the precision.
    """
    config = read_config(checkpoint)
    hand = load_mano(mano) if mano else None
    with reading(checkpoint):
        tensors = read_tensors(checkpoint)
        if not any(key.startswith("mano.") for key in tensors):
            if hand is None:
                raise CheckpointError("it has no hand model (mano.*): pass MANO_RIGHT.pkl with --mano")
        else:
            if hand is not None:
                _compare_hands(tensors, hand, mano)
            hand = None
        return build_hamer(tensors, config, hand=hand, precision=precision, device=device)


def build_hamer(
    tensors: Tensors,
    config: HamerConfig,
    *,
    hand: ManoArrays | None = None,
    precision: Precision = FULL,
    device: torch.device | str = "cpu",
) -> Hamer:
    """Builds the network from copies of tensors that are named as in the official checkpoint.

    Args:
        tensors: the checkpoint's state_dict.
        config: of its model_config.yaml.
        hand: the hand model, if `tensors` has none.
        precision: of the backbone.
        device: of the weights.

    Raises:
        CheckpointError: as for `load_hamer`.
    """
    sizes = infer_sizes({key: tuple(t.shape) for key, t in tensors.items()}, config)
    _check_tensors(tensors, sizes, with_mano=hand is None)
    used = _Recorder(tensors)
    topology, hand_tensors = hand_of_pickle(hand) if hand else hand_of_checkpoint(used)
    with torch.device("meta"):
        model = _skeleton(sizes, topology, config, hand_tensors)
    weights = {"mean": torch.tensor(config.mean, device=device), "std": torch.tensor(config.std, device=device)}
    for name, source in chain(network_weights(used, sizes), hand_weights(hand_tensors, topology)):
        weights[name] = _convert(name, source, dtype_of(name, source, precision), device)
        del source
        if isinstance(tensors, MappedTensors):
            tensors.release(used.keys_read)
        used.keys_read.clear()
    model.requires_grad_(False)
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def _skeleton(sizes: HamerSizes, topology: ManoTopology, config: HamerConfig, hand: Tensors) -> Hamer:
    """Builds the modules. Called on the meta device, so it allocates no memory."""
    backbone = ViT(
        dim=sizes.dim,
        depth=sizes.depth,
        heads=sizes.heads,
        mlp_dim=sizes.mlp_dim,
        patch=sizes.patch,
        tokens=sizes.tokens,
    )
    head = ManoHead(
        dim=sizes.decoder_dim,
        depth=sizes.decoder_depth,
        heads=sizes.decoder_heads,
        head_dim=sizes.decoder_head_dim,
        mlp_dim=sizes.decoder_mlp_dim,
        context_dim=sizes.dim,
    )
    mano = Mano(topology, vertices=len(hand["v_template"]), faces=len(hand["faces_tensor"]), betas=BETAS)
    return Hamer(backbone, head, mano, focal=config.focal, image_size=config.image_size)


def _compare_hands(tensors: Tensors, hand: ManoArrays, path: Path | None) -> None:
    """Warns if a hand model differs from the checkpoint's, which is the one in use."""
    for key, array in (
        ("v_template", hand.v_template),
        ("shapedirs", hand.shapedirs),
        ("posedirs", hand.posedirs),
        ("J_regressor", hand.j_regressor),
        ("lbs_weights", hand.lbs_weights),
    ):
        ours = tensors.get(f"mano.{key}")
        # Loose enough for a hand model stored in 16 bits.
        if ours is not None and not (
            ours.shape == array.shape and np.allclose(ours.float(), array, rtol=2e-3, atol=1e-5)
        ):
            logger.warning(
                "--mano differs from the hand model in the checkpoint; using the checkpoint's",
                extra={"mano": str(path), "array": key},
            )


def _check_tensors(tensors: Tensors, sizes: HamerSizes, *, with_mano: bool) -> None:
    """Raises an error that names every tensor that is missing, unknown, or of another shape or type."""
    expected = network_shapes(sizes)
    if with_mano:
        vertices, faces = (
            len(tensors[key]) if key in tensors and tensors[key].dim() else 0
            for key in ("mano.v_template", "mano.faces_tensor")
        )
        expected |= mano_shapes(vertices, faces)
    problems = [f"missing: {key}" for key in expected if key not in tensors]
    problems += [f"unknown: {name_of(key)}" for key in tensors if key not in expected and not IGNORED.fullmatch(key)]
    for key, shape in expected.items():
        if key in tensors:
            problems += _mismatch(key, tensors[key], shape)
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise CheckpointError(f"unexpected tensors: {shown}")


INTEGERS = {"mano.parents", "mano.faces_tensor", "mano.joint_map", "mano.extra_joints_idxs"}


def _mismatch(key: str, tensor: torch.Tensor, shape: Shape) -> Iterator[str]:
    if tuple(tensor.shape) != shape:
        yield f"wrong shape: {key} is {tuple(tensor.shape)}, expected {shape}"
    if tensor.is_floating_point() == (key in INTEGERS):
        yield f"wrong type: {key} holds {tensor.dtype}"


def dtype_of(name: str, source: torch.Tensor, precision: Precision) -> torch.dtype:
    """Returns the dtype of one of our tensors, by its name, in a precision."""
    if not source.is_floating_point():
        return torch.int64
    if not name.startswith("backbone."):
        return torch.float32
    return precision.stream if "norm" in name or name.endswith("pos_embed") else precision.matrices


def _is_finite(tensor: torch.Tensor) -> bool:
    """Returns whether no number is NaN or infinity. Allocates no second tensor, which might leave holes in the heap."""
    return tensor.numel() == 0 or all(bool(edge.isfinite()) for edge in tensor.aminmax())  # aminmax() of NaN is NaN


def _convert(name: str, source: torch.Tensor, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Copies a tensor to its device and dtype, and checks that every number is finite afterwards."""
    weight = source.to(device=device, dtype=dtype, copy=True).contiguous()
    if weight.is_floating_point() and not _is_finite(weight):
        if _is_finite(source):
            raise WeightsOverflowError(f"{name} exceeds the range of {dtype}")
        raise CheckpointError(f"the tensor for {name} holds NaN or infinity")
    return weight


class _Recorder(Mapping[str, torch.Tensor]):
    """Tensors that record which of them have been read, so that their memory can be released."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self.keys_read: set[str] = set()

    def __getitem__(self, key: str) -> torch.Tensor:
        self.keys_read.add(key)
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
