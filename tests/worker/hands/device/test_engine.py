"""The detector on torch, compared with the one on LiteRT."""

from contextlib import closing

import cv2
import numpy as np
import pytest
import torch

from worker.hands.detection import KeepingDetector
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.device.engine import DeviceEngine
from worker.hands.effort import Effort
from worker.hands.geometry import View
from worker.hands.networks import SearchViews
from worker.hands.palm import PALMS

CLOSE = 0.5
"""Pixels by which a box may differ: a grey level in an input can move it a little."""


@pytest.mark.slow
@pytest.mark.measured
@pytest.mark.parametrize("effort", Effort)
def test_the_same_hands_are_found(litert, engine, pictures, effort):
    """With the same sides, scores and joints, at each effort; results name the engine."""
    ours, theirs = (PalmLandmarkDetector(each, effort=effort) for each in (engine, litert))
    assert (ours.engine, theirs.engine, ours.name) == ("torch-cpu", "litert", theirs.name)
    # Of the pictures of several hands each level has one in which all of its networks find something.
    names = {
        Effort.FAST: ["one", "many", "nothing", "hands.jpg"],
        Effort.BALANCED: ["pair"],
        Effort.THOROUGH: ["hands.jpg"],
    }
    for image in (pictures[name] for name in names[effort]):
        found, expected = ours.detect(image), theirs.detect(image)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=CLOSE)
        np.testing.assert_array_equal(found.is_right, expected.is_right)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-2)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=CLOSE)


def test_pictures_share_batches(engine, pictures):
    """Nobody waits who submits a picture, and each gets the hands of its own."""
    detector = PalmLandmarkDetector(engine, effort=Effort.FAST)
    small = cv2.resize(pictures["pair"], (232, 174), interpolation=cv2.INTER_AREA)
    pictures = {"pair": small, "nothing": pictures["nothing"]}
    alone = {name: detector.detect(image) for name, image in pictures.items()}
    assert [len(hands) for hands in alone.values()] == [2, 0]
    kept = []
    assert isinstance(detector, KeepingDetector)
    found = [(name, detector.submit(image)) for name, image in pictures.items()]
    found += [(name, detector.submit_keeping(image, kept.append)) for name, image in pictures.items()]
    for name, hands in found:
        np.testing.assert_allclose(hands.result(120).boxes, alone[name].boxes, atol=CLOSE)
    assert len(kept) == 2
    for picture in kept:
        picture.free()


def stopping():
    """A computation that fails at its first step."""
    yield from ()
    raise ValueError("stop")


def refused():
    """One that fails after an answer."""
    yield SearchViews(PALMS, [View(0, 0, 100, 100)])
    raise ValueError("stop")


@pytest.mark.parametrize("steps", [stopping, refused])
def test_the_room_of_a_picture_is_freed(models, pictures, steps):
    """Whether it was answered or not: more pictures than there is room for come one after the other."""
    with closing(DeviceEngine(models, torch.device("cpu"), pixels=500_000)) as engine:
        for future in [engine.run(pictures["one"], steps()) for _ in range(3)]:
            with pytest.raises(ValueError, match="stop"):
                future.result(60)
        assert engine._arena._rooms.is_empty


def finding():
    """One that asks once and finds something."""
    yield SearchViews(PALMS, [View(0, 0, 100, 100)])
    return "found"


def test_a_picture_may_be_kept(models, pictures):
    """Its copy is handed over before the future is done; not if the computation fails."""
    with closing(DeviceEngine(models, torch.device("cpu"), pixels=500_000)) as engine:
        kept = []
        assert engine.run(pictures["one"], finding(), kept.append).result(60) == "found"
        [picture] = kept
        np.testing.assert_array_equal(picture.pixels.numpy(), pictures["one"])
        assert not engine._arena._rooms.is_empty
        picture.free()
        assert engine._arena._rooms.is_empty
        with pytest.raises(ValueError, match="stop"):
            engine.run(pictures["one"], refused(), kept.append).result(60)
        assert engine._arena._rooms.is_empty
    assert len(kept) == 1


def test_a_lost_device_is_reported(models, pictures, monkeypatch):
    """Before the picture fails with its error: by default the process ends then."""
    lost = []
    engine = DeviceEngine(models, torch.device("cpu"), pixels=500_000, on_lost=lost.append)
    detector = PalmLandmarkDetector(engine, effort=Effort.FAST)

    def launch(_rows):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    for runner in engine._runners.values():
        monkeypatch.setattr(runner, "launch", launch)
    with closing(engine), pytest.raises(RuntimeError, match="illegal memory"):
        detector.detect(pictures["one"])
    assert len(lost) == 1
