"""The loader: strict, safe, and frugal with memory."""

import ctypes
import math
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.processes.in_fork import in_fork

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.checkpoint import BRAIN, FULL, HALF, Precision, build_hamer, load_hamer  # noqa: E402
from worker.hamer.config import HamerConfig, config_of_yaml  # noqa: E402
from worker.hamer.errors import CheckpointError, WeightsOverflowError  # noqa: E402
from worker.hamer.sizes import (  # noqa: E402
    IGNORED,
    VIT_H,
    HamerSizes,
    infer_sizes,
    mano_shapes,
    network_shapes,
)

Tensors = dict[str, Any]
LAYER = "mano_head.transformer.transformer.layers.1"


def test_expected_tensors_are_the_official_ones(config: dict[str, Any]):
    """Apart from the ignored ones, exactly the listed tensors with the listed shapes are required."""
    lines = (Path(__file__).parents[2] / "data/hamer_tiny/state_dict_keys.tsv").read_text().splitlines()
    listed = {}
    for line in lines:
        key, shape, _ = line.split("\t")
        listed[key] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
    sizes = infer_sizes(listed, config_of_yaml(config))
    needed = {key: shape for key, shape in listed.items() if not IGNORED.fullmatch(key)}
    assert network_shapes(sizes) | mano_shapes(778, 1538) == needed


def test_official_sizes():
    """The released network has 563 tensors minus the ignored ones, and 630,912,000 numbers in its backbone."""
    shapes = network_shapes(VIT_H)
    backbone = sum(math.prod(shape) for key, shape in shapes.items() if key.startswith("backbone."))
    head = sum(math.prod(shape) for key, shape in shapes.items() if key.startswith("mano_head."))
    assert (len(shapes) + len(mano_shapes(778, 1538)), backbone, head) == (563 - 1 - 46 - 4, 630_912_000, 39_497_946)
    assert infer_sizes(shapes, HamerConfig()) == VIT_H


def without(*keys: str) -> Callable[[Tensors], None]:
    """Returns a change that removes tensors."""
    return lambda t: [t.pop(key) for key in keys] and None


def replaced(key: str, make: Callable[[Any], Any]) -> Callable[[Tensors], None]:
    """Returns a change that replaces a tensor by a function of it."""
    return lambda t: t.__setitem__(key, make(t.get(key)))


def quantised(weights: Any) -> Any:
    """Returns the numbers in 8 bits. Torch means to give that up, but reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(weights, 1.0, 0, torch.qint8)


TENSOR_ERRORS = {
    "missing weight": (without("backbone.blocks.1.mlp.fc2.weight"), "missing: backbone.blocks.1.mlp.fc2.weight"),
    "missing block": (
        lambda t: [t.pop(k) for k in list(t) if k.startswith("backbone.blocks.0.")],
        "missing: backbone.blocks.0.attn.qkv.weight",
    ),
    "no blocks": (lambda t: [t.pop(k) for k in list(t) if k.startswith("backbone.blocks.")], "backbone.blocks.0.…"),
    "no norms": (lambda t: [t.pop(k) for k in list(t) if ".norm" in k], "missing: backbone.blocks.0.norm1.weight"),
    "missing readout": (without("mano_head.deccam.bias"), "missing: mano_head.deccam.bias"),
    "missing mean": (without("mano_head.init_betas"), "missing: mano_head.init_betas"),
    "missing part of the hand": (without("mano.posedirs"), "missing: mano.posedirs"),
    "no template": (without("mano.v_template"), "missing: mano.v_template"),
    "no hand": (lambda t: [t.pop(k) for k in list(t) if k.startswith("mano.")], "pass MANO_RIGHT.pkl"),
    "unknown": (replaced("backbone.cls_token", lambda _: torch.zeros(1)), "unknown: backbone.cls_token"),
    "wide mlp": (
        replaced("backbone.blocks.0.mlp.fc1.weight", lambda w: w[:200]),
        r"mlp\.fc1\.weight is \(200, 64\), expected \(256, 64\)",
    ),
    "short norm": (
        replaced("backbone.blocks.1.norm2.bias", lambda w: w[:-1]),
        r"norm2\.bias is \(63,\), expected \(64,\)",
    ),
    "short positions": (
        replaced("backbone.pos_embed", lambda w: w[:, 1:]),
        r"pos_embed is \(1, 192, 64\), expected \(1, 193, 64\)",
    ),
    "transposed": (replaced(f"{LAYER}.1.fn.to_q.weight", lambda w: w.T), r"to_q\.weight is \(64, 32\)"),
    "scalar template": (replaced("mano.v_template", lambda _: torch.tensor(1.0)), r"v_template is \(\)"),
    "hand of 20 coefficients": (replaced("mano.shapedirs", lambda w: w.repeat(1, 1, 2)), "mano.shapedirs is"),
    "integers": (replaced("backbone.last_norm.weight", lambda w: w.long()), "last_norm.weight holds torch.int64"),
    "real faces": (replaced("mano.faces_tensor", lambda w: w.float()), "mano.faces_tensor holds torch.float32"),
    "child before parent": (replaced("mano.parents", lambda w: w.flip(0)), "parents must be -1"),
    "faces beyond the hand": (replaced("mano.faces_tensor", lambda w: w + 778), "faces_tensor exceeds its 778"),
    "not a number": (
        replaced("backbone.blocks.0.attn.proj.weight", lambda w: w * math.nan),
        "attn.proj.weight holds NaN",
    ),
    "a block beyond reason": (
        replaced("backbone.blocks.1000000000000.norm1.weight", lambda _: torch.zeros(64)),
        r"unknown: backbone\.blocks\.1000000000000\.norm1\.weight",
    ),
    "a block's number of 5,000 digits": (
        replaced(f"backbone.blocks.{'9' * 5000}.norm1.weight", lambda _: torch.zeros(64)),
        r"unknown: 'backbone\.blo",
    ),
    "no layer's number": (
        replaced("backbone.blocks.²5.norm1.weight", lambda _: torch.zeros(64)),
        r"unknown: backbone\.blocks\.²5",
    ),
    "empty norms": (
        lambda t: t.update({k: v[:0] for k, v in t.items() if "blocks" in k and "norm" in k and "weight" in k}),
        r"norm1\.weight holds no numbers",
    ),
    "no patch": (replaced("backbone.patch_embed.proj.weight", lambda w: w[..., :0]), r"proj\.weight holds no numbers"),
    "sparse": (
        replaced("backbone.last_norm.weight", lambda w: w.to_sparse()),
        r"last_norm\.weight is torch\.sparse_coo",
    ),
    "no data": (
        replaced("backbone.last_norm.weight", lambda w: w.to("meta")),
        r"last_norm\.weight has no data \(meta\)",
    ),
    "one number repeated": (
        replaced("backbone.last_norm.weight", lambda _: torch.zeros(1).expand(1 << 40)),
        r"last_norm\.weight is \(1099511627776,\) but the file has fewer numbers",
    ),
    "quantised": (replaced("backbone.last_norm.weight", lambda w: quantised(w)), r"last_norm\.weight is torch\.qint8"),
    "complex": (
        replaced("backbone.last_norm.weight", lambda w: w.to(torch.complex64)),
        "last_norm.weight holds torch.c",
    ),
    "a number as a name": (lambda t: t.__setitem__(7, torch.zeros(1)), "name of a tensor must be text: 7"),
    "not a tensor": (replaced("mano_head.deccam.bias", lambda _: 1.0), "not tensors: mano_head.deccam.bias"),
}


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("case", TENSOR_ERRORS)
def test_wrong_tensors_are_named(case: str, tensors: Tensors, write_checkpoint: Callable[..., Path]):
    """A missing, unknown, misshapen or invalid tensor is an error that names the file and the tensor."""
    change, message = TENSOR_ERRORS[case]
    state = dict(tensors)
    change(state)
    path = write_checkpoint(state)
    with pytest.raises(CheckpointError, match=message) as e:
        load_hamer(path)
    assert str(path) in str(e.value)


def test_only_the_wrong_tensor_is_named(tensors: Tensors, write_checkpoint: Callable[..., Path]):
    """Though sizes are inferred from shapes, one misshapen tensor is the only one in the error."""
    state = dict(tensors)
    state["backbone.blocks.0.mlp.fc1.weight"] = torch.zeros(200, 64)
    with pytest.raises(CheckpointError) as e:
        load_hamer(write_checkpoint(state))
    assert str(e.value).count("wrong shape") == 1


def test_ignored_tensors_may_be_missing(tensors: Tensors, write_checkpoint: Callable[..., Path]):
    """The training's tensors, unused means and duplicates may be missing."""
    load_hamer(write_checkpoint({key: t for key, t in tensors.items() if not IGNORED.fullmatch(key)}))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "text", "cut off"])
def test_damaged_files_are_refused(content: bytes | None, write_checkpoint: Callable[..., Path]):
    """A damaged file is one clear error."""
    path = write_checkpoint()
    path.write_bytes(path.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(CheckpointError, match=r"hamer\.ckpt"):
        load_hamer(path)


def test_missing_files_are_refused(tmp_path: Path):
    """A missing file is named."""
    with pytest.raises(CheckpointError, match="no such file"):
        load_hamer(tmp_path / "nothing.ckpt")


def test_other_checkpoints_are_refused(write_checkpoint: Callable[..., Path]):
    """A file of other tensors is refused."""
    path = write_checkpoint()
    torch.save([torch.zeros(1)], path)
    with pytest.raises(CheckpointError, match="no state_dict"):
        load_hamer(path)


class Malicious:
    """An object that runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_malicious_checkpoints_are_refused(write_checkpoint: Callable[..., Path], tmp_path: Path):
    """A checkpoint that carries code is refused, and the code doesn't run."""
    path = write_checkpoint(hyper_parameters=Malicious(f"touch {tmp_path}/ran"))
    with pytest.raises(CheckpointError, match="refused"):
        load_hamer(path)
    assert not (tmp_path / "ran").exists()


def test_errors_never_repeat_the_advice_to_switch_the_protection_off(write_checkpoint: Callable[..., Path]):
    """What torch says about a refused file is its advice to load it all the same; ours names the class."""
    for thing, name in ((Malicious("true"), "posix.system"), (Path("/etc"), "pathlib")):
        with pytest.raises(CheckpointError) as e:
            load_hamer(write_checkpoint(hyper_parameters=thing))
        assert name in str(e.value)
        assert "weights_only" not in str(e.value)
        assert "two options" not in str(e.value)


def test_packed_archives_are_refused(write_checkpoint: Callable[..., Path]):
    """An archive whose content is larger than the file is refused before it is unpacked."""
    path = write_checkpoint()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=r"refused: .* is compressed"):
        load_hamer(path)


def test_weights_beyond_sixteen_bits(tensors: Tensors, config: dict[str, Any]):
    """A weight beyond the range of float16 is an error there; bfloat16 and float32 hold it."""
    large = dict(tensors) | {"backbone.blocks.0.mlp.fc1.bias": torch.full((256,), 1e5)}
    settings = config_of_yaml(config)
    with pytest.raises(WeightsOverflowError, match=r"fc1\.bias exceeds"):
        build_hamer(large, settings, precision=HALF)
    build_hamer(large, settings, precision=BRAIN)
    build_hamer(large, settings, precision=FULL)


def test_hand_from_the_pickle(golden: SimpleNamespace, tensors: Tensors, write_checkpoint: Callable[..., Path]):
    """A checkpoint without a hand model uses MANO_RIGHT.pkl's, and yields the official hand."""
    path = write_checkpoint({key: t for key, t in tensors.items() if not key.startswith("mano.")})
    model = load_hamer(path, mano=golden.mano)
    rotations = np.concatenate([golden.outputs["mano_global_orient"], golden.outputs["mano_hand_pose"]], axis=1)
    joints, vertices = model.mano(torch.from_numpy(rotations), torch.from_numpy(golden.outputs["mano_betas"]))
    assert np.abs(vertices.numpy() - golden.outputs["pred_vertices"]).max() < 1e-5
    assert np.abs(joints.numpy() - golden.outputs["pred_keypoints_3d"]).max() < 1e-5


def test_two_hand_models_are_compared(
    golden: SimpleNamespace, tensors: Tensors, write_checkpoint: Callable[..., Path], caplog: pytest.LogCaptureFixture
):
    """With both, the checkpoint's hand is used; a warning names the array that differs in the pickle."""
    load_hamer(write_checkpoint(), mano=golden.mano)
    assert not caplog.records
    load_hamer(
        write_checkpoint(dict(tensors) | {"mano.v_template": tensors["mano.v_template"] + 0.01}), mano=golden.mano
    )
    assert [record.array for record in caplog.records] == ["v_template"]


def kib(name: str) -> int:
    """Returns a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def write_peak(first: Path, path: Path, precision: Precision) -> None:
    """Writes the most memory that loading takes, as a multiple of the weights'."""
    load_hamer(first, precision=FULL)  # includes what torch itself needs on its first load
    ctypes.CDLL(None).malloc_trim(0)  # or else memory that other tests have freed could be used again unnoticed
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = kib("VmRSS")
    model = load_hamer(path, precision=precision)
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    sys.stdout.write(str((kib("VmHWM") - before) * 1024 / weights))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_hardly_needs_more_memory_than_the_weights(
    golden: SimpleNamespace, config: dict[str, Any], write_checkpoint: Callable[..., Path]
):
    """At its peak, loading takes at most 1.2 times the weights' memory, in 16 bits too."""
    from bench.hamer_reference import random_tensors

    document = pickle.loads(pickle.dumps(config))
    document["MODEL"]["BACKBONE"] = {"TYPE": "vit", "NUM_HEADS": 8}
    document["MODEL"]["MANO_HEAD"]["TRANSFORMER_DECODER"].pop("context_dim")
    sizes = HamerSizes(
        image_size=256, patch=16, dim=320, depth=8, heads=8, mlp_dim=1280,
        decoder_dim=64, decoder_depth=2, decoder_heads=2, decoder_head_dim=16, decoder_mlp_dim=96,
    )  # fmt: skip
    path = write_checkpoint(random_tensors(sizes), document)
    for precision in (FULL, BRAIN):  # each in a process of its own: no load has the memory that another one has left
        done = in_fork(partial(write_peak, golden.checkpoint, path, precision))
        assert done.returncode == 0, done.stderr
        assert 1 <= float(done.stdout) <= 1.2


def test_errors_name_the_file_at_fault(golden: SimpleNamespace, write_checkpoint: Callable[..., Path], tmp_path: Path):
    """An error in the hand model's file names that file, not the checkpoint."""
    hand = tmp_path / "MANO_RIGHT.pkl"
    hand.write_bytes(golden.mano.read_bytes()[:1000])
    with pytest.raises(CheckpointError) as e:
        load_hamer(write_checkpoint(), mano=hand)
    assert str(e.value).startswith(f"{hand}: ")
    assert "hamer.ckpt" not in str(e.value)
