"""The loader's reading of model_config.yaml: strict, and safe."""

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")
from worker.hamer.checkpoint import load_hamer  # noqa: E402
from worker.hamer.config import config_of_yaml  # noqa: E402
from worker.hamer.errors import CheckpointError  # noqa: E402

Tensors = dict[str, Any]


CONFIG_ERRORS = {
    "other backbone": (("MODEL", "BACKBONE", "TYPE"), "resnet", "BACKBONE.TYPE is 'resnet'"),
    "other head": (("MODEL", "MANO_HEAD", "TYPE"), "mlp", "MANO_HEAD.TYPE is 'mlp'"),
    "other input": (("MODEL", "MANO_HEAD", "TRANSFORMER_INPUT"), "mean_shape", "TRANSFORMER_INPUT"),
    "iterations": (("MODEL", "MANO_HEAD", "IEF_ITERS"), 3, "IEF_ITERS is 3"),
    "other rotations": (("MODEL", "MANO_HEAD", "JOINT_REP"), "aa", "JOINT_REP"),
    "heads that don't divide": (("MODEL", "BACKBONE", "NUM_HEADS"), 3, "3 heads"),
    "heads that contradict": (("MODEL", "MANO_HEAD", "TRANSFORMER_DECODER", "heads"), 4, "32 channels"),
    "depth that contradicts": (("MODEL", "BACKBONE", "DEPTH"), 32, "DEPTH is 32 in model_config.yaml, but 2"),
    "width that contradicts": (
        ("MODEL", "BACKBONE", "EMBED_DIM"),
        1280,
        "EMBED_DIM is 1280 in model_config.yaml, but 64",
    ),
    "no number": (("MODEL", "IMAGE_SIZE"), "large", "IMAGE_SIZE must be a whole number"),
    "no colour": (("MODEL", "IMAGE_MEAN"), [0.5], "IMAGE_MEAN must be three numbers"),
    "an infinite picture": (("MODEL", "IMAGE_SIZE"), math.inf, "IMAGE_SIZE must be a whole number from 1 to"),
    "a picture of no size": (("MODEL", "IMAGE_SIZE"), math.nan, "IMAGE_SIZE must be a whole number"),
    "a picture beyond reason": (("MODEL", "IMAGE_SIZE"), 10**400, "IMAGE_SIZE must be a whole number"),
    "half a head": (("MODEL", "BACKBONE", "NUM_HEADS"), 0.5, "NUM_HEADS must be a whole number"),
    "colours divided by 0": (("MODEL", "IMAGE_STD"), [0.2, 0, 0.2], "IMAGE_STD must be three numbers above 0"),
    "a negative deviation": (("MODEL", "IMAGE_STD"), [-1, 1, 1], "IMAGE_STD must be three numbers above 0"),
    "colours that are no numbers": (("MODEL", "IMAGE_MEAN"), [math.nan, 0, 0], "IMAGE_MEAN must be three numbers"),
    "infinite colours": (("MODEL", "IMAGE_STD"), [math.inf, 1, 1], "IMAGE_STD must be three numbers"),
    "an infinite camera": (("EXTRA", "FOCAL_LENGTH"), math.inf, "FOCAL_LENGTH must be a whole number"),
    "no section": (("MODEL", "MANO_HEAD"), None, "no section MODEL.MANO_HEAD"),
    "nothing": (("MODEL",), None, "no section MODEL"),
}


@pytest.mark.parametrize("case", CONFIG_ERRORS)
def test_wrong_configs_are_refused(
    case: str, config: dict[str, Any], tensors: Tensors, write_checkpoint: Callable[..., Path]
):
    """A yaml that describes another network, or contradicts the tensors, is an error that names the entry."""
    keys, value, message = CONFIG_ERRORS[case]
    document = pickle.loads(pickle.dumps(config))
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(CheckpointError, match=message):
        load_hamer(write_checkpoint(document=document))


def test_config_defaults_are_the_official_ones(config: dict[str, Any]):
    """Entries that the released yaml lacks have the official code's values."""
    document = pickle.loads(pickle.dumps(config))
    for name in ("EMBED_DIM", "DEPTH", "NUM_HEADS"):
        del document["MODEL"]["BACKBONE"][name]
    document["MODEL"]["MANO_HEAD"]["TRANSFORMER_DECODER"] = {"norm": "layer"}
    del document["EXTRA"]
    read = config_of_yaml(document)
    assert (read.heads, read.decoder_heads, read.decoder_head_dim, read.focal) == (16, 8, 64, 5000.0)


def test_yaml_is_found_beside_or_above(write_checkpoint: Callable[..., Path], tmp_path: Path):
    """The yaml may be in the checkpoint's folder or in the one above; without one there is an error."""
    above = write_checkpoint()
    assert load_hamer(above)
    beside = tmp_path / "hamer.ckpt"
    os.link(above, beside)
    with pytest.raises(CheckpointError, match=r"no model_config\.yaml"):
        load_hamer(beside)
    (tmp_path / "model_config.yaml").write_bytes((above.parents[1] / "model_config.yaml").read_bytes())
    assert load_hamer(beside)
    (tmp_path / "model_config.yaml").write_text("a: [")
    with pytest.raises(CheckpointError, match="not YAML"):
        load_hamer(beside)


YAML_ERRORS = {
    "a date that is none": ("a: 2001-99-99", "not YAML"),
    "a number of 5,000 digits": (f"a: {'9' * 5000}", "not YAML"),
    "brackets without end": ("[" * 600, "not YAML"),
    "not text": (b"\xff\xfe\x00\xd8", "not YAML"),
    "too large": (" " * (2 << 20), "larger than 1 MiB"),
    "a text that doubles": (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)) + "MODEL: *a39",
        "no section MODEL",
    ),
    "a size that doubles": (
        "a0: &a0 [x, x]\n"
        + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
        + "MODEL: {BACKBONE: {}, MANO_HEAD: {TRANSFORMER_DECODER: {}}, IMAGE_SIZE: *a39}",
        "IMAGE_SIZE must be a whole number",
    ),
}


@pytest.mark.parametrize("case", YAML_ERRORS)
def test_hostile_yaml_is_refused(case: str, write_checkpoint: Callable[..., Path]):
    """A yaml that no parser reads, or whose values are enormous when written out, is one short error."""
    content, message = YAML_ERRORS[case]
    path = write_checkpoint()
    yaml_path = path.parents[1] / "model_config.yaml"
    yaml_path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=message) as e:
        load_hamer(path)
    assert len(str(e.value)) < 1000
