"""The predictor: its precision, and what it takes from a frame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.errors import HamerError, WeightsOverflowError  # noqa: E402
from worker.hamer.geometry import crops_of_boxes  # noqa: E402
from worker.hamer.predictor import HamerPredictor, choose_precisions  # noqa: E402


def test_tiny_and_read_only_frames(predictor: HamerPredictor):
    """A frame of a single pixel, or one that is read-only, can be cropped."""
    image = np.full((1, 1, 3), 255, np.uint8)
    image.setflags(write=False)
    crops = predictor.crop(image, crops_of_boxes(np.array([[-2.0, -2, 3, 3]]), np.array([False])))
    assert crops.pixels.shape == (1, 3, 256, 192)
    assert crops.pixels.isfinite().all()


def test_faces(predictor: HamerPredictor):
    """The triangles for drawing are the checkpoint's."""
    assert predictor.faces.shape == (1538, 3)


def test_precisions_by_device():
    """A GPU tries float16 first and bfloat16 next."""
    assert [p.name for p in choose_precisions(torch.device("cuda"))] == ["float16", "bfloat16"]
    assert choose_precisions(torch.device("cpu"))[0].name in ("float32", "bfloat16")
    with pytest.raises(HamerError, match="int4"):
        HamerPredictor.load(Path("hamer.ckpt"), device="cpu", precision="int4")


def test_fallback_to_bfloat16(
    tensors: dict, overflowing: dict, write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    """If weights or arithmetic overflow float16, bfloat16 is used; if float16 was requested, it is an error."""
    both = choose_precisions(torch.device("cuda"))
    monkeypatch.setattr("worker.hamer.predictor.choose_precisions", lambda _: both)

    def precision(state: dict) -> torch.dtype:
        engine = HamerPredictor.load(write_checkpoint(state), device="cpu").engine
        return engine.model.backbone.blocks[0].fc1.weight.dtype

    bias = "backbone.blocks.0.mlp.fc1.bias"
    assert precision(dict(tensors)) == torch.float16
    assert precision(dict(tensors) | {bias: torch.full((256,), 1e5)}) == torch.bfloat16
    assert precision(overflowing) == torch.bfloat16
    with pytest.raises(WeightsOverflowError):
        HamerPredictor.load(write_checkpoint(overflowing), device="cpu", precision="float16")
