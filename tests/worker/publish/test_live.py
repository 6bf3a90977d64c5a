import logging
import threading

import cv2
import pytest
from support.publishing import FakeVideo, number_of, numbered

from process.backoff import Backoff
from worker.publish.capture import Capture
from worker.publish.live import LiveCamera
from worker.publish.source import SourceError


class NoWait(Backoff):
    """Counts its waits, which take no time."""

    waits = 0
    resets = 0

    def next(self) -> float:
        self.waits += 1
        return 0.0

    def reset(self) -> None:
        self.resets += 1


class Openings:
    """Opens one thing after the other: a list of frames, or an error; at the end of all it stops the camera."""

    def __init__(self, stop: threading.Event, *things: list[int] | str) -> None:
        self._stop = stop
        self._things = iter(things)
        self.videos: list[FakeVideo] = []

    def __call__(self) -> Capture:
        thing = next(self._things, None)
        if thing is None:
            self._stop.set()
            raise SourceError("the end")
        if isinstance(thing, str):
            raise SourceError(thing)
        self.videos.append(FakeVideo([numbered(index) for index in thing]))
        return Capture(self.videos[-1], encoded=False)


def run(*things: list[int] | str) -> tuple[list[tuple[float, int]], Openings, NoWait]:
    """Runs a camera through its openings; the clock counts the frames."""
    stop, backoff = threading.Event(), NoWait()
    openings = Openings(stop, *things)
    clock = iter(range(1000))
    camera = LiveCamera(
        "door",
        openings,
        lambda picture: cv2.imencode(".jpg", picture)[1].tobytes(),
        backoff=backoff,
        clock=lambda: float(next(clock)),
    )
    return [(frame.ts, number_of(frame.picture)) for frame in camera.frames(stop)], openings, backoff


def test_a_lost_camera_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    """Over losses and failed openings all frames come, at the time of their capture; each change is said once."""
    with caplog.at_level(logging.INFO):
        frames, openings, backoff = run("not there", "not there", [1, 2], "gone", "gone", [], [3], [4])
    assert frames == [(0.0, 1), (1.0, 2), (2.0, 3), (3.0, 4)]
    assert all(video.released for video in openings.videos)
    assert backoff.waits == 9
    assert backoff.resets == 4
    assert [record.getMessage() for record in caplog.records] == [
        "not there; trying again until it's back",
        "door is back",
        "door gives no more frames; trying again until it's back",
        "door is back",
        "door gives no more frames; trying again until it's back",
        "door is back",
        "door gives no more frames; trying again until it's back",
    ]


def test_a_stop_is_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    """A camera that is told to stop is closed, and nothing is said about it."""
    stop = threading.Event()
    openings = Openings(stop, [1, 2, 3])
    frames = LiveCamera("door", openings, lambda _: b"", backoff=NoWait()).frames(stop)
    next(frames)
    stop.set()
    assert list(frames) == []
    assert openings.videos[0].released
    assert not caplog.records
