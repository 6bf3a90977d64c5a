"""process_frame_callback: ask, then count."""

from collections.abc import Sequence

import numpy as np
import pytest
from support.models.fake_detector import ONE_HAND, FakeDetector
from support.processes.workers import picture

from handcounter.pacing.schedule import Reason
from worker.hand_counter import process_frame_callback
from worker.picture_header import PictureError
from worker.queue.frame import SkipReason
from worker.results import FrameResult


class Limiter:
    """Decides all frames alike, and notes them."""

    def __init__(self, decision: Reason) -> None:
        self.decision = decision
        self.asked: list[tuple[str, float]] = []

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides."""
        self.asked += frames
        return [self.decision] * len(frames)


class Untouchable:
    """A detector that must not be used."""

    name = "untouchable"

    def detect(self, _: object) -> None:
        """Fails the test."""
        raise AssertionError("the frame was processed")


@pytest.mark.parametrize("frame", [picture(), np.zeros((48, 64, 3), np.uint8)], ids=["jpeg", "array"])
def test_an_admitted_frame_is_counted(frame: object) -> None:
    """The limiter is asked once, with the frame's name and ts; the result has the hands and the picture's size."""
    limiter = Limiter(Reason.ADMITTED)
    result = process_frame_callback("cam1", 12.5, frame, detector=FakeDetector(), limiter=limiter)
    assert isinstance(result, FrameResult)
    assert limiter.asked == [("cam1", 12.5)]
    assert (result.stream_name, result.ts, result.backend) == ("cam1", 12.5, "fake")
    assert (result.width, result.height, result.hand_count) == (64, 48, 1)
    assert result.hands is ONE_HAND


@pytest.mark.parametrize("reason", set(Reason) - {Reason.ADMITTED})
def test_a_denied_frame_is_neither_decoded_nor_processed(reason: Reason) -> None:
    """The result is the reason for skipping it, even if the picture can't be decoded."""
    skipped = process_frame_callback("cam1", 1.0, b"no picture", detector=Untouchable(), limiter=Limiter(reason))
    assert skipped is SkipReason(reason.name.lower())


@pytest.mark.parametrize(("stream_name", "ts"), [("", 1.0), ("x" * 257, 1.0), ("cam", -1.0), ("cam", float("nan"))])
def test_an_invalid_name_or_ts_is_an_error(stream_name: str, ts: float) -> None:
    """Of the caller: the limiter isn't asked."""
    limiter = Limiter(Reason.ADMITTED)
    with pytest.raises(ValueError, match="must"):
        process_frame_callback(stream_name, ts, picture(), detector=Untouchable(), limiter=limiter)
    assert limiter.asked == []


@pytest.mark.parametrize(("data", "max_pixels"), [(b"no picture", 10_000), (picture(), 100)])
def test_an_admitted_frame_that_cannot_be_decoded_is_an_error(data: bytes, max_pixels: int) -> None:
    """Because it isn't a picture, or has too many pixels."""
    limiter = Limiter(Reason.ADMITTED)
    with pytest.raises(PictureError):
        process_frame_callback("cam1", 1.0, data, detector=Untouchable(), limiter=limiter, max_pixels=max_pixels)
