import logging
import threading
from collections.abc import Iterator

import pytest
from support.publishing import jpeg, number_of

from process.backoff import Backoff
from worker.publish import live
from worker.publish.live import LiveCamera, NotACameraError
from worker.publish.outages import Outages
from worker.publish.source import SourceError, SourceFrame
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


class FakeReading:
    """An open camera with some frames."""

    codec = "h264"
    why_ended = "it sends no more frames"

    def __init__(self, numbers: list[int]) -> None:
        self.closed = False
        self._numbers = numbers

    def frames(self, times, due, encode, stop: threading.Event) -> Iterator[SourceFrame]:  # noqa: ARG002
        for number in self._numbers:
            if stop.is_set():
                return
            times.arrives(0.0)
            yield SourceFrame(times.ts(0.0), lambda number=number: jpeg(number))

    def close(self) -> None:
        self.closed = True


class Openings:
    """Opens one result after the other: a list of frames, or an error; stops the camera after the last."""

    def __init__(self, stop: threading.Event, *results: list[int] | str) -> None:
        self._stop = stop
        self._results = iter(results)
        self.readings: list[FakeReading] = []

    def __call__(self) -> FakeReading:
        result = next(self._results, None)
        if result is None:
            self._stop.set()
            raise SourceError("the end")
        if isinstance(result, str):
            raise SourceError(result)
        self.readings.append(FakeReading(result))
        return self.readings[-1]


def run(*results: list[int] | str) -> tuple[list[tuple[float, int]], Openings, NoWait]:
    """Runs a camera through these results; the clock counts the frames."""
    stop, backoff = threading.Event(), NoWait()
    openings = Openings(stop, *results)
    clock = iter(range(1000))
    outages = Outages("door", "cam1")
    camera = LiveCamera(outages, openings, lambda _: b"", backoff=backoff, clock=lambda: float(next(clock)))
    frames = [(frame.ts, number_of(frame.encode())) for frame in camera.frames(stop, Unlimited())]
    return frames, openings, backoff


LOST, BACK = "the camera is lost; retrying", "the camera works again"


def test_a_lost_camera_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    """Frames are yielded across losses and failed openings, with their time of arrival; each change is logged once."""
    with caplog.at_level(logging.INFO):
        frames, openings, backoff = run("not there", "not there", [1, 2], "gone", "gone", [], [3], [4])
    assert frames == [(0.0, 1), (1.0, 2), (2.0, 3), (3.0, 4)]
    assert all(reading.closed for reading in openings.readings)
    assert backoff.waits == 9
    assert backoff.resets == 4
    assert [(record.getMessage(), getattr(record, "reason", None)) for record in caplog.records] == [
        (LOST, "not there"),
        *[(BACK, None), (LOST, "it sends no more frames")] * 3,
    ]
    assert {(record.camera, record.stream) for record in caplog.records} == {("door", "cam1")}


def test_a_stop_is_not_a_loss(caplog: pytest.LogCaptureFixture) -> None:
    """A stop closes the camera, and nothing is logged."""
    stop = threading.Event()
    openings = Openings(stop, [1, 2, 3])
    frames = LiveCamera(Outages("door"), openings, lambda _: b"", backoff=NoWait()).frames(stop, Unlimited())
    next(frames)
    stop.set()
    assert list(frames) == []
    assert openings.readings[0].closed
    assert not caplog.records


def test_what_is_not_a_camera_is_not_retried() -> None:
    """It ends the source."""

    def film() -> FakeReading:
        raise NotACameraError("door is a film")

    with pytest.raises(NotACameraError):
        list(LiveCamera(Outages("door"), film, lambda _: b"", backoff=NoWait()).frames(threading.Event(), Unlimited()))


def test_cameras_are_opened_in_turn_unless_they_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening takes memory, so few do it at the same time; one that is lost may not answer, and holds up nobody."""
    turns = threading.BoundedSemaphore(1)
    monkeypatch.setattr(live, "_OPENING", turns)
    taken: list[bool] = []
    stop = threading.Event()
    openings = Openings(stop, "not there", [1])

    def opens() -> FakeReading:
        free = turns.acquire(blocking=False)
        taken.append(not free)
        if free:
            turns.release()
        return openings()

    list(LiveCamera(Outages("door"), opens, lambda _: b"", backoff=NoWait()).frames(stop, Unlimited()))
    assert taken == [True, False, False]
