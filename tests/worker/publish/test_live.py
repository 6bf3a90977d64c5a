import logging
import threading

import cv2
import pytest
from support.publishing import FakeVideo, number_of, numbered

from process.backoff import Backoff
from worker.publish.capture import Capture
from worker.publish.live import LiveCamera
from worker.publish.source import SourceError
from worker.publish.thinning import Unlimited


class NoWait(Backoff):
    """Counts its delays, which are 0."""

    waits = 0
    resets = 0

    def next(self) -> float:
        self.waits += 1
        return 0.0

    def reset(self) -> None:
        self.resets += 1


class Openings:
    """Opens one result after the other: a list of frames, or an error; stops the camera after the last."""

    def __init__(self, stop: threading.Event, *results: list[int] | str) -> None:
        self._stop = stop
        self._results = iter(results)
        self.videos: list[FakeVideo] = []

    def __call__(self) -> Capture:
        result = next(self._results, None)
        if result is None:
            self._stop.set()
            raise SourceError("the end")
        if isinstance(result, str):
            raise SourceError(result)
        self.videos.append(FakeVideo([numbered(index) for index in result]))
        return Capture(self.videos[-1], encoded=False)


def run(*results: list[int] | str) -> tuple[list[tuple[float, int]], Openings, NoWait]:
    """Runs a camera through these results; the clock counts the frames."""
    stop, backoff = threading.Event(), NoWait()
    openings = Openings(stop, *results)
    clock = iter(range(1000))
    camera = LiveCamera(
        "door",
        openings,
        lambda picture: cv2.imencode(".jpg", picture)[1].tobytes(),
        backoff=backoff,
        clock=lambda: float(next(clock)),
    )
    return [(frame.ts, number_of(frame.encode())) for frame in camera.frames(stop, Unlimited())], openings, backoff


def test_a_lost_camera_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    """Frames are yielded across losses and failed openings, with their time of arrival; each change is logged once."""
    with caplog.at_level(logging.INFO):
        frames, openings, backoff = run("not there", "not there", [1, 2], "gone", "gone", [], [3], [4])
    assert frames == [(0.0, 1), (1.0, 2), (2.0, 3), (3.0, 4)]
    assert all(video.released for video in openings.videos)
    assert backoff.waits == 9
    assert backoff.resets == 4
    lost, back = "the camera is lost; retrying", "the camera works again"
    assert [(record.getMessage(), getattr(record, "reason", None)) for record in caplog.records] == [
        (lost, "not there"),
        *[(back, None), (lost, "it sends no more frames")] * 3,
    ]
    assert {record.camera for record in caplog.records} == {"door"}


def test_a_stop_is_not_a_loss(caplog: pytest.LogCaptureFixture) -> None:
    """A stop closes the camera, and nothing is logged."""
    stop = threading.Event()
    openings = Openings(stop, [1, 2, 3])
    frames = LiveCamera("door", openings, lambda _: b"", backoff=NoWait()).frames(stop, Unlimited())
    next(frames)
    stop.set()
    assert list(frames) == []
    assert openings.videos[0].released
    assert not caplog.records
