"""The plain forward that the bench compares with, and the full-size network."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from bench.hamer_reference import PlainHamer, flops_per_crop, random_tensors  # noqa: E402
from worker.hamer.checkpoint import BRAIN, FULL, build_hamer  # noqa: E402
from worker.hamer.config import HamerConfig, config_of_yaml  # noqa: E402
from worker.hamer.engine import Engine  # noqa: E402
from worker.hamer.sizes import VIT_H, infer_sizes  # noqa: E402


def test_plain_forward_is_the_official_one(golden: SimpleNamespace, tensors: dict[str, Any], config: dict[str, Any]):
    """The bench's plain forward computes the official numbers."""
    sizes = infer_sizes({key: tuple(t.shape) for key, t in tensors.items()}, config_of_yaml(config))
    out = PlainHamer(tensors, sizes)(torch.from_numpy(golden.crops["img"])[..., 32:224])
    for name, theirs in (
        ("camera", "pred_cam"),
        ("vertices", "pred_vertices"),
        ("keypoints_3d", "pred_keypoints_3d"),
        ("keypoints_2d", "pred_keypoints_2d"),
    ):
        assert np.abs(out[name].numpy() - golden.outputs[theirs]).max() < 1e-5


def test_arithmetic_of_the_official_network():
    """A crop costs 248 GFLOP in the backbone and 3.1 in the head."""
    backbone, head = flops_per_crop(VIT_H)
    assert backbone == pytest.approx(248.0e9, rel=1e-3)
    assert head == pytest.approx(3.09e9, rel=0.01)


@pytest.mark.slow
def test_official_widths_agree_with_the_plain_forward():
    """With the released network's widths and heads, two layers deep, ours computes the plain forward's numbers."""
    sizes = replace(VIT_H, depth=2, decoder_depth=2)
    tensors = random_tensors(sizes, copies=False)
    crops = torch.randn(1, 3, 256, 192, generator=torch.Generator().manual_seed(0))
    ours = build_hamer(tensors, HamerConfig(), precision=FULL)(crops, mesh=True)
    theirs = PlainHamer(tensors, sizes)(crops)
    assert torch.allclose(ours["vertices"], theirs["vertices"], atol=1e-5)
    assert torch.allclose(ours["cameras"], theirs["camera"], atol=1e-5)


@pytest.mark.slow
def test_official_size():
    """The released network, 671 million numbers, can be built and run; its output for one crop is finite."""
    model = build_hamer(random_tensors(VIT_H, dtype=torch.bfloat16, copies=False), HamerConfig(), precision=BRAIN)
    assert sum(p.numel() for p in model.backbone.parameters()) == 630_912_000 - 1280  # row 0 of the positions is folded
    rows = Engine(model).forward(torch.zeros(1, 3, 256, 192))
    assert rows.shape == (1, 263)
    assert np.isfinite(rows).all()
