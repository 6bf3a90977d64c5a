import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from support.publishing import ListSource, captured, jpeg
from support.waiting import wait_until

from worker.picture_header import PictureError
from worker.publish.publisher import Publisher
from worker.publish.source import Captured, SourceError, SourceFrame
from worker.publish.thinning import Due


class FakeQueue:
    """Accepts frames, except while it is closed."""

    def __init__(self) -> None:
        self.published: list[float] = []
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def publish(self, frame: Captured, cancelled: threading.Event) -> bool:
        self.asked.set()
        while not self.open.wait(0.01):
            if cancelled.is_set():
                return False
        self.published.append(frame.ts)
        return True


def frames(count: int) -> list[Captured]:
    """Returns frames with the ts 0, 1, 2, ..."""
    return [captured(0, float(index)) for index in range(count)]


def run(publisher: Publisher) -> None:
    """Runs a publisher until it has nothing left to do."""
    publisher.start()
    assert publisher.wait(60.0)
    wait_until(publisher.stop)


def test_a_source_is_published_to_its_end() -> None:
    """All frames of a film are published, in order, with any size of the buffer."""
    queue = FakeQueue()
    publisher = Publisher(ListSource(frames(100)), queue, buffer_frames=3)
    run(publisher)
    assert queue.published == [float(index) for index in range(100)]
    assert publisher.progress().published == 100
    assert publisher.progress().dropped == 0
    assert publisher.error is None


@pytest.mark.parametrize("live", [False, True])
def test_count_ends_it(live: bool) -> None:
    """It stops after the given number of published frames of an endless source."""
    queue = FakeQueue()
    run(Publisher(ListSource(map(captured, itertools.repeat(0), itertools.count()), live), queue, count=5))
    assert len(queue.published) == 5


def test_duration_ends_it() -> None:
    """It stops after the given seconds on the frames' own clock; the last frame is before that."""
    queue = FakeQueue()
    run(Publisher(ListSource([captured(0, 100.0 + index) for index in range(50)]), queue, duration=7.0))
    assert queue.published == [100.0 + index for index in range(7)]


def test_capture_times_are_waited_for() -> None:
    """A paced source is published no faster than by its capture times."""
    queue = FakeQueue()
    started = time.monotonic()
    run(Publisher(ListSource([captured(0, index * 0.05) for index in range(6)], paced=True), queue))
    assert time.monotonic() - started >= 0.25
    assert len(queue.published) == 6


def test_a_live_source_drops_the_oldest_while_redis_is_unreachable() -> None:
    """While nothing can be published a live capture continues; the last frames are published, the rest is counted."""
    queue = FakeQueue()
    queue.open.clear()
    taken: list[int] = []

    def given() -> Iterator[Captured]:
        for index in range(50):
            yield captured(0, float(index))
            taken.append(index)

    publisher = Publisher(ListSource(given(), live=True), queue, buffer_frames=4)
    publisher.start()
    wait_until(lambda: len(taken) == 50)
    queue.open.set()
    assert publisher.wait(60.0)
    publisher.stop()
    progress = publisher.progress()
    assert progress.published + progress.dropped == 50
    assert queue.published[-4:] == [46.0, 47.0, 48.0, 49.0]
    assert progress.published <= 6


def test_a_film_waits_while_redis_is_unreachable() -> None:
    """A film that can't be published is read no further than the buffer's size, and is published completely afterwards."""
    queue, taken = FakeQueue(), []
    queue.open.clear()

    def given() -> Iterator[Captured]:
        for index in range(50):
            taken.append(index)
            yield captured(0, float(index))

    publisher = Publisher(ListSource(given()), queue, buffer_frames=4)
    publisher.start()
    wait_until(lambda: len(taken) >= 5)
    assert not publisher.wait(0.1)
    assert len(taken) <= 6
    queue.open.set()
    assert publisher.wait(60.0)
    assert queue.published == [float(index) for index in range(50)]
    wait_until(publisher.stop)


def endless() -> Iterator[Captured]:
    """Returns endless frames."""
    return (captured(0, float(index)) for index in itertools.count())


@pytest.mark.parametrize("unreachable", [False, True])
@pytest.mark.parametrize("live", [False, True])
def test_a_stop_ends_both_threads(live: bool, unreachable: bool) -> None:
    """A stop ends the publisher at once, whether it waits for Redis, for room in the buffer or for nothing."""
    queue = FakeQueue()
    if unreachable:
        queue.open.clear()
    publisher = Publisher(ListSource(endless(), live), queue)
    publisher.start()
    assert queue.asked.wait(60.0)
    wait_until(publisher.stop)  # each thread has 0.4 s to end
    assert publisher.progress().published == len(queue.published)
    assert publisher.error is None


def test_a_capture_that_cannot_be_interrupted() -> None:
    """If the capture is in a system call, a stop returns False instead of waiting for it."""
    released = threading.Event()

    def silent() -> Iterator[Captured]:
        released.wait()
        yield from ()

    publisher = Publisher(ListSource(silent(), live=True), FakeQueue())
    publisher.start()
    assert not publisher.stop()
    released.set()
    wait_until(publisher.stop)


def test_duration_ends_a_silent_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live source without any frame ends after the duration too."""
    # There is no frame whose retries would take this long.
    monkeypatch.setattr("worker.publish.publisher._LAST_FRAMES_S", 3600.0)
    stop = threading.Event()

    def given() -> Iterator[Captured]:
        stop.wait()
        yield from ()

    publisher = Publisher(ListSource(given(), live=True), FakeQueue(), duration=0.2)
    publisher.start()
    started = time.monotonic()
    assert publisher.wait(0.0) is False
    wait_until(lambda: publisher.wait(1.0))
    assert time.monotonic() - started > 0.1
    stop.set()
    wait_until(publisher.stop)


def failing(error: Exception) -> Callable[[], Iterator[Captured]]:
    """Returns a source that fails after two frames."""

    def given() -> Iterator[Captured]:
        yield from frames(2)
        raise error

    return given


@pytest.mark.parametrize("error", [SourceError("the film is gone"), RuntimeError("a defect")])
def test_an_error_of_the_source_ends_it(error: Exception) -> None:
    """The source's error is kept; the frames before it are published."""
    queue = FakeQueue()
    publisher = Publisher(ListSource(failing(error)()), queue)
    run(publisher)
    assert publisher.error is error
    assert queue.published == [0.0, 1.0]


def test_an_error_of_the_queue_ends_it() -> None:
    """An invalid frame ends the publisher with an error instead of leaving it waiting."""

    class Broken(FakeQueue):
        def publish(self, *_: object) -> bool:
            raise ValueError("ts must not be negative")

    publisher = Publisher(ListSource(endless(), live=False), Broken())
    run(publisher)
    assert isinstance(publisher.error, ValueError)


def test_a_long_gap_in_a_film_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Before a wait for a timestamp far ahead there is a line, so that the film doesn't seem to hang."""
    publisher = Publisher(ListSource([captured(0, 0.0), captured(1, 95_000.0)], paced=True), FakeQueue())
    publisher.start()
    wait_until(lambda: caplog.records)
    publisher.stop()
    (record,) = caplog.records
    assert record.seconds == pytest.approx(95_000.0, abs=60.0)


class EveryOther:
    """Admits frames with an even ts; notes what was taken."""

    catches_up = True

    def __init__(self) -> None:
        self.noted: list[float] = []

    def fps(self) -> float:
        return 0.5

    def next_ts(self) -> float:
        return -math.inf

    def is_due(self, ts: float) -> bool:
        return ts % 2 == 0

    def taken(self, ts: float) -> None:
        self.noted.append(ts)


class PartlyBroken:
    """A source of six frames; the third can't be encoded and the fifth isn't decoded."""

    live = False
    paced = False

    def __init__(self) -> None:
        self.encoded: list[float] = []

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        for index in range(6):
            yield SourceFrame(float(index), partial(self.encode, index) if index != 4 else None)

    def encode(self, index: int) -> bytes:
        self.encoded.append(float(index))
        if index == 2:
            raise PictureError("too wide")
        return jpeg(index)


def test_nothing_is_spent_on_frames_that_are_not_due(caplog: pytest.LogCaptureFixture) -> None:
    """Only due frames are encoded; a frame that can't be encoded is logged and takes nobody's turn."""
    queue, due, source = FakeQueue(), EveryOther(), PartlyBroken()
    publisher = Publisher(source, queue, due=due)
    run(publisher)
    assert queue.published == due.noted == [0.0]
    assert source.encoded == [0.0, 2.0]
    progress = publisher.progress()
    assert (progress.arrived, progress.published, progress.thinned, progress.dropped) == (6, 1, 4, 1)
    assert [(record.ts, record.reason) for record in caplog.records] == [(2.0, "too wide")]
