"""Reads hamer.ckpt and its model_config.yaml, and maps their tensors onto our modules. Nothing else reads them.

Loading is strict: an error names every tensor that is missing, unknown, or of another shape or type. It never runs code
from the file (`weights_only`), and needs little more memory than the weights: the file is mapped, the modules start on
the meta device, and each tensor's pages are returned to the system once it has been copied.
"""

import ctypes
import logging
import mmap
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from worker.hamer.errors import CheckpointError, WeightsOverflowError
from worker.hamer.mano_pickle import ManoArrays, load_mano
from worker.hamer.modeling.hamer import Hamer
from worker.hamer.modeling.head import BETAS, ManoHead
from worker.hamer.modeling.mano import Mano, ManoTopology
from worker.hamer.modeling.vit import ViT
from worker.hamer.recipes import Recipe, Tensors, mano_of_arrays, mano_of_tensors, network_recipes
from worker.hamer.sizes import (
    IGNORED,
    HamerConfig,
    HamerSizes,
    Shape,
    config_of_yaml,
    infer_sizes,
    mano_shapes,
    network_shapes,
)

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
    config = _read_config(checkpoint)
    hand = load_mano(mano) if mano else None
    with _reading(checkpoint):
        tensors = _read_tensors(checkpoint)
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
    topology, hand_recipes = mano_of_arrays(hand) if hand else mano_of_tensors(tensors)
    recipes = network_recipes(sizes) | hand_recipes

    def constant(values: tuple[float, ...]) -> Recipe:
        return lambda _: torch.tensor(values)

    recipes |= {"mean": constant(config.mean), "std": constant(config.std)}
    with torch.device("meta"):
        model = _skeleton(sizes, topology, config, recipes, tensors)
    weights = {}
    for name, recipe in recipes.items():
        used = _Recorder(tensors)
        source = recipe(used)
        weights[name] = _convert(name, source, _dtype_of(name, source, precision), device)
        del source
        if isinstance(tensors, _MappedTensors):
            tensors.release(used.keys_read)
    model.requires_grad_(False)
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def _skeleton(
    sizes: HamerSizes, topology: ManoTopology, config: HamerConfig, recipes: Mapping[str, Recipe], tensors: Tensors
) -> Hamer:
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
    vertices, faces = (len(recipes[f"mano.{name}"](tensors)) for name in ("v_template", "faces"))
    mano = Mano(topology, vertices=vertices, faces=faces, betas=BETAS)
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
    problems += [f"unknown: {key}" for key in tensors if key not in expected and not IGNORED.fullmatch(key)]
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


def _dtype_of(name: str, source: torch.Tensor, precision: Precision) -> torch.dtype:
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
    """Records which tensors have been read."""

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


class _MappedTensors(dict[str, torch.Tensor]):
    """Tensors whose storages are pages of a mapped file."""

    def release(self, keys: set[str]) -> None:
        """Returns the tensors' pages to the system, which would read them from the file again if need be.

        Otherwise the weights would be in memory twice, as pages of the file and as the copies; a container's memory
        limit counts both.
        """
        if sys.platform != "linux":
            return
        page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
        for key in keys:
            tensor = self[key]
            first = -(-tensor.data_ptr() // page) * page  # whole pages only: others may be shared with a neighbour
            last = (tensor.data_ptr() + tensor.nbytes) // page * page
            if last > first:
                libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def _read_tensors(checkpoint: Path) -> _MappedTensors:
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise CheckpointError("no such file") from None
    except pickle.UnpicklingError as e:
        raise CheckpointError(f"refused: it holds other things than tensors ({_first_line(e)})") from e
    except Exception as e:  # a broken file raises nearly anything
        raise CheckpointError(f"not a PyTorch checkpoint, or a damaged one ({_first_line(e)})") from e
    tensors = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(tensors, dict):
        raise CheckpointError("it has no state_dict: is this hamer.ckpt?")
    odd = [key for key, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise CheckpointError(f"not tensors: {', '.join(map(str, odd[:5]))}")
    return _MappedTensors(tensors)


def _read_config(checkpoint: Path) -> HamerConfig:
    places = [folder / "model_config.yaml" for folder in (checkpoint.parent, checkpoint.parent.parent)]
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: no such file")
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        raise CheckpointError(f"no model_config.yaml beside {checkpoint} or in the folder above")
    try:
        document: Any = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as e:
        raise CheckpointError(f"{path}: not YAML: {_first_line(e)}") from e
    with _reading(path.parent):
        return config_of_yaml(document)


class _reading:  # noqa: N801 - used as a statement
    """Adds the file's name to a CheckpointError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CheckpointError):
            raise type(error)(f"{self._path}: {error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
