"""process_frame_callback, by itself."""

from collections.abc import Sequence

import numpy as np
import pytest
from support.models.fake_detector import ONE_HAND, FakeDetector
from support.processes.workers import picture

from handcounter.pacing.schedule import Reason
from worker.hand_counter import process_frame_callback
from worker.picture import PictureError
from worker.queue.frame import SkipReason
from worker.results import FrameResult


class Limiter:
    """Gives one answer and notes the questions."""

    def __init__(self, answer: Reason) -> None:
        self.answer = answer
        self.asked: list[tuple[str, float]] = []

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Answers."""
        self.asked += frames
        return [self.answer] * len(frames)


class Untouchable:
    """A detector that must not be asked."""

    name = "untouchable"

    def detect(self, _: object) -> None:
        """Fails the test."""
        raise AssertionError("a denied frame was processed")


@pytest.mark.parametrize("frame", [picture(), np.zeros((48, 64, 3), np.uint8)], ids=["jpeg", "array"])
def test_an_admitted_frame_is_counted(frame: object) -> None:
    """It asks once, with the frame's own name and ts, and gives the hands and what they were found in."""
    limiter = Limiter(Reason.ADMITTED)
    result = process_frame_callback("cam1", 12.5, frame, detector=FakeDetector(), limiter=limiter)
    assert isinstance(result, FrameResult)
    assert limiter.asked == [("cam1", 12.5)]
    assert (result.stream_name, result.ts, result.backend) == ("cam1", 12.5, "fake")
    assert (result.width, result.height, result.hand_count) == (64, 48, 1)
    assert result.hands is ONE_HAND


@pytest.mark.parametrize("reason", set(Reason) - {Reason.ADMITTED})
def test_a_denied_frame_is_neither_decoded_nor_looked_at(reason: Reason) -> None:
    """The answer is the skip of that reason, even where the picture is none."""
    skipped = process_frame_callback("cam1", 1.0, b"no picture", detector=Untouchable(), limiter=Limiter(reason))
    assert skipped is SkipReason(reason.name.lower())


def test_a_decision_that_is_handed_in_is_not_asked_for() -> None:
    """The decision of a batch call is enough, in both directions."""
    assert isinstance(
        process_frame_callback("cam1", 1.0, picture(), detector=FakeDetector(), decision=Reason.ADMITTED), FrameResult
    )
    skipped = process_frame_callback("cam1", 1.0, picture(), detector=Untouchable(), decision=Reason.PAUSED)
    assert skipped is SkipReason.PAUSED


@pytest.mark.parametrize(
    ("stream_name", "ts", "limiter"),
    [("", 1.0, Limiter(Reason.ADMITTED)), ("cam", -1.0, Limiter(Reason.ADMITTED)), ("cam", 1.0, None)],
)
def test_nonsense_is_refused(stream_name: str, ts: float, limiter: Limiter | None) -> None:
    """A bad name, a bad ts, and nobody to ask are errors of the caller; nobody is asked."""
    with pytest.raises(ValueError, match=r"must|limiter"):
        process_frame_callback(stream_name, ts, picture(), detector=Untouchable(), limiter=limiter)
    assert limiter is None or limiter.asked == []


def test_what_is_no_picture_is_an_error() -> None:
    """An admitted frame that can't be decoded raises PictureError; so does one that is too large."""
    for data, pixels in ((b"no picture", 10_000), (picture(), 100)):
        with pytest.raises(PictureError):
            process_frame_callback(
                "cam1", 1.0, data, detector=Untouchable(), decision=Reason.ADMITTED, max_pixels=pixels
            )
