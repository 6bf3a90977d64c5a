import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from support.publishing import ListSource, captured, jpeg
from support.waiting import wait_until

from process.backoff import Backoff
from worker.picture_header import PictureError
from worker.publish.outages import Outages
from worker.publish.outbox import OUTLET_FRAMES, Outbox
from worker.publish.publisher import Publisher
from worker.publish.source import Captured, Source, SourceError, SourceFrame
from worker.publish.thinning import Due


class FakeChannel:
    """Publishes frames as a sender does, except while it is closed."""

    def __init__(self, size: int = OUTLET_FRAMES, count: int | None = None) -> None:
        self.published: list[float] = []
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.error = None
        self.begun: list[tuple[bool, bool]] = []
        self._outbox = Outbox(time.monotonic)
        self.outlet = self._outbox.open("cam1", size=size, most=count)
        threading.Thread(target=self._send, daemon=True).start()

    def begin(self, *, live: bool, waits: bool) -> None:
        self.begun.append((live, waits))
        self.outlet.live = not waits

    def _send(self) -> None:
        while not self.outlet.done.is_set():
            for outlet, frame in self._outbox.take(1, 1):
                self.asked.set()
                if self.open.wait(0.01):
                    self.published.append(frame.ts)
                    outlet.settle()
                else:
                    outlet.give_back(0.0)


def publisher_of(source: Source, channel: FakeChannel, **options: object) -> Publisher:
    """Returns a publisher of an open source."""
    return Publisher(lambda: source, channel, Outages("door"), **options)


def frames(count: int) -> list[Captured]:
    """Returns frames with the ts 0, 1, 2, ..."""
    return [captured(0, float(index)) for index in range(count)]


def run(publisher: Publisher) -> None:
    """Runs a publisher until it has nothing left to do."""
    publisher.start()
    assert publisher.done.wait(60.0)
    wait_until(publisher.stop)


def test_a_source_is_published_to_its_end() -> None:
    """All frames of a film are published, in order, with any size of the buffer."""
    queue = FakeChannel(size=3)
    publisher = publisher_of(ListSource(frames(100)), queue)
    run(publisher)
    assert queue.published == [float(index) for index in range(100)]
    assert publisher.progress().published == 100
    assert publisher.progress().dropped == 0
    assert publisher.error is None


@pytest.mark.parametrize("live", [False, True])
def test_count_ends_it(live: bool) -> None:
    """It stops after the given number of published frames of an endless source."""
    queue = FakeChannel(count=5)
    run(publisher_of(ListSource(map(captured, itertools.repeat(0), itertools.count()), live), queue))
    assert len(queue.published) == 5


def test_duration_ends_it() -> None:
    """It stops after the given seconds on the frames' own clock; the last frame is before that."""
    queue = FakeChannel()
    run(publisher_of(ListSource([captured(0, 100.0 + index) for index in range(50)]), queue, duration=7.0))
    assert queue.published == [100.0 + index for index in range(7)]


def test_capture_times_are_waited_for() -> None:
    """A paced source is published no faster than by its capture times."""
    queue = FakeChannel()
    started = time.monotonic()
    run(publisher_of(ListSource([captured(0, index * 0.05) for index in range(6)], paced=True), queue))
    assert time.monotonic() - started >= 0.25
    assert len(queue.published) == 6


def test_a_live_source_drops_the_oldest_while_redis_is_unreachable() -> None:
    """While nothing can be published a live capture continues; the last frames are published, the rest is counted."""
    queue = FakeChannel(size=4)
    queue.open.clear()
    taken: list[int] = []

    def given() -> Iterator[Captured]:
        for index in range(50):
            yield captured(0, float(index))
            taken.append(index)

    publisher = publisher_of(ListSource(given(), live=True), queue)
    publisher.start()
    wait_until(lambda: len(taken) == 50)
    queue.open.set()
    assert publisher.done.wait(60.0)
    publisher.stop()
    progress = publisher.progress()
    assert progress.published + progress.dropped == 50
    assert queue.published[-4:] == [46.0, 47.0, 48.0, 49.0]
    assert progress.published <= 6


def test_a_film_waits_while_redis_is_unreachable() -> None:
    """A film that can't be published is read no further than the buffer's size, and is published completely afterwards."""
    queue, taken = FakeChannel(size=4), []
    queue.open.clear()

    def given() -> Iterator[Captured]:
        for index in range(50):
            taken.append(index)
            yield captured(0, float(index))

    publisher = publisher_of(ListSource(given()), queue)
    publisher.start()
    wait_until(lambda: len(taken) >= 5)
    assert not publisher.done.wait(0.1)
    assert len(taken) <= 6
    queue.open.set()
    assert publisher.done.wait(60.0)
    assert queue.published == [float(index) for index in range(50)]
    wait_until(publisher.stop)


def endless() -> Iterator[Captured]:
    """Returns endless frames."""
    return (captured(0, float(index)) for index in itertools.count())


@pytest.mark.parametrize("unreachable", [False, True])
@pytest.mark.parametrize("live", [False, True])
def test_a_stop_ends_both_threads(live: bool, unreachable: bool) -> None:
    """A stop ends the publisher at once, whether it waits for Redis, for room in the buffer or for nothing."""
    queue = FakeChannel()
    if unreachable:
        queue.open.clear()
    publisher = publisher_of(ListSource(endless(), live), queue)
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

    publisher = publisher_of(ListSource(silent(), live=True), FakeChannel())
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

    publisher = publisher_of(ListSource(given(), live=True), FakeChannel(), duration=0.2)
    publisher.start()
    started = time.monotonic()
    assert 0 < publisher.seconds_left() <= 0.2
    wait_until(lambda: publisher.done.wait(min(publisher.seconds_left(), 0.05)))
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
    queue = FakeChannel()
    publisher = publisher_of(ListSource(failing(error)()), queue)
    run(publisher)
    assert publisher.error is error
    assert queue.published == [0.0, 1.0]


def test_a_source_that_fails_is_opened_again() -> None:
    """If that is asked for, after a pause, in which a stop ends it; the frames go on in the same outlet."""
    openings: list[object] = [SourceError("not there"), SourceError("not there"), failing(SourceError("gone"))()]
    queue, outages = FakeChannel(), Outages("door")
    waits: list[float] = []

    class Pauses(Backoff):
        def next(self) -> float:
            waits.append(len(queue.published))
            return 0.0 if len(waits) < 4 else 600.0

    def opens() -> ListSource:
        opened = openings.pop(0) if openings else SourceError("the end")
        if isinstance(opened, SourceError):
            raise opened
        return ListSource(opened)

    publisher = Publisher(opens, queue, outages, retry=Pauses())
    publisher.start()
    wait_until(lambda: len(waits) == 4)
    wait_until(lambda: queue.published == [0.0, 1.0])
    assert (outages.problem, outages.working) == ("the end", False)
    assert publisher.error is None
    assert not publisher.done.is_set()
    wait_until(publisher.stop)
    assert publisher.ended_at is None
    assert publisher.done.wait(60.0)


def test_without_retries_it_ends_with_the_reason() -> None:
    """A source that can't be opened ends it."""

    def opens() -> ListSource:
        raise SourceError("not there")

    publisher = Publisher(opens, FakeChannel(), Outages("door"))
    run(publisher)
    assert str(publisher.error) == "not there"
    assert publisher.ended_at is not None


@pytest.mark.parametrize(
    ("live", "paced", "begun"),
    [
        (True, False, (True, False)),
        (True, True, (True, False)),
        (False, True, (True, True)),
        (False, False, (False, True)),
    ],
)
def test_what_the_queue_is_told_of_the_source(live: bool, paced: bool, begun: tuple[bool, bool]) -> None:
    """Cameras drop frames, films wait; only those that aren't published at their pace may wait in the queue."""
    queue = FakeChannel()
    run(publisher_of(ListSource([captured(0, 1.0)], live, paced), queue))
    assert queue.begun == [begun]


def test_a_long_gap_in_a_film_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Before a wait for a timestamp far ahead there is a line, so that the film doesn't seem to hang."""
    publisher = publisher_of(ListSource([captured(0, 0.0), captured(1, 95_000.0)], paced=True), FakeChannel())
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
    codec = ""

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
    queue, due, source = FakeChannel(), EveryOther(), PartlyBroken()
    publisher = publisher_of(source, queue, due=due)
    run(publisher)
    assert queue.published == due.noted == [0.0]
    assert source.encoded == [0.0, 2.0]
    progress = publisher.progress()
    assert (progress.arrived, progress.published, progress.thinned, progress.dropped) == (6, 1, 4, 1)
    assert [(record.ts, record.reason) for record in caplog.records] == [(2.0, "too wide")]
