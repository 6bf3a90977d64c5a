"""What the stages do with a job: with a detector that takes one picture at a time, and with one that takes many."""

import gc
import json
import logging
import queue as queues
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest
from support.models.fake_detector import ONE_HAND, FakeDetector
from support.processes.workers import RED, picture
from support.waiting import wait_until

from worker.hands.detection import BatchingDetector, HandDetector, Hands
from worker.metrics import Metrics
from worker.picture_header import MAX_PIXELS
from worker.pipeline.attempts import ATTEMPTS
from worker.pipeline.smoothing import Smoother
from worker.pipeline.stages import Stages
from worker.queue.delivery import Counted, Dead, Delivery, Job, Settled, skipped
from worker.queue.frame import DeadReason, SkipReason, parse_entry

ARRIVED = 1_700_000_000.0
FIELDS = {b"stream_name": b"cam", b"ts": b"12.5", b"frame_key": b"key"}


def job(payload: bytes) -> Job:
    """A job whose entry arrived at ARRIVED."""
    entry_id = f"{int(ARRIVED * 1000)}-0"
    return Job(parse_entry(entry_id, FIELDS), payload, Delivery(entry_id, FIELDS, 1))


class Failing:
    """Raises an error a number of times, then finds one hand."""

    name = "failing"
    engine = "fake"

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def detect(self, image: np.ndarray) -> Hands:  # noqa: ARG002
        if self.failures:
            self.failures -= 1
            raise MemoryError("out of memory")
        return ONE_HAND


class Parts:
    """The stages, with one decoding thread, and their neighbours."""

    def __init__(
        self,
        detector: HandDetector,
        now: Callable[[], float] = lambda: ARRIVED,
        max_pixels: int = MAX_PIXELS,
        smoother: Smoother | None = None,
    ) -> None:
        self.jobs: queues.Queue[Job | None] = queues.Queue()
        self.settled: queues.SimpleQueue[Settled | None] = queues.SimpleQueue()
        self.metrics = Metrics()
        self.stages = Stages(
            [detector],
            self.jobs.get,
            self.settled,
            self.metrics,
            now=now,
            max_age=10.0,
            max_pixels=max_pixels,
            smoother=smoother,
        )

    def count(self, *payloads: bytes) -> list[Settled | None]:
        """Counts jobs with these payloads; returns how their deliveries are settled."""
        for payload in payloads:
            self.jobs.put(job(payload))
        self.jobs.put(None)
        (decode,) = self.stages.decoding()
        decode()
        return [self.settled.get_nowait() for _ in payloads]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs all threads; at the end there is no next job, and what is in progress must be done."""
        runs = [*self.stages.decoding(), *self.stages.finishing()]
        threads = [threading.Thread(target=run, daemon=True) for run in runs]
        for thread in threads:
            thread.start()
        yield
        self.jobs.put(None)
        threads[0].join(60.0)
        self.stages.finish(60.0)
        for thread in threads:
            thread.join(60.0)
            assert not thread.is_alive()

    def value(self, name: str) -> float:
        """A sample of the metrics."""
        return self.metrics.registry.get_sample_value(f"hand_counter_{name}") or 0.0


@pytest.mark.parametrize(("now", "age"), [(ARRIVED + 4.0, 4.0), (ARRIVED - 7.0, 0.0), (ARRIVED + 10.0, 10.0)])
def test_a_frame_is_counted(now: float, age: float) -> None:
    """The result has the hands and the entry's age, which is 0 for an id in the future."""
    parts = Parts(FakeDetector(), lambda: now)
    (counted,) = parts.count(picture())
    assert isinstance(counted, Counted)
    assert (counted.stream_name, counted.ts, counted.hand_count) == ("cam", 12.5, 1)
    assert f'"queue_age":{age}' in counted.result
    assert f'"entry_id":"{counted.entry_id}"' in counted.result
    assert (parts.value("frame_seconds_count"), parts.value("queue_age_seconds_sum")) == (1, age)


def test_smoothing_changes_no_raw_count() -> None:
    """With a smoother, results have the stream's smoothed count beside their own; without one it is null."""
    for smoother, expected in ((Smoother(), 0), (None, None)):
        if smoother:
            for ts in (10.5, 11.0, 11.5, 12.0):
                smoother.add("cam", ts, 0)
        (counted,) = Parts(FakeDetector(), smoother=smoother).count(picture())
        assert isinstance(counted, Counted)
        result = json.loads(counted.result)
        assert (result["hand_count"], result["hand_count_smoothed"]) == (1, expected)
        assert counted.hand_count == 1


def test_a_frame_that_grew_too_old_is_skipped() -> None:
    """It waited for longer than --max-age among the jobs; the detector isn't asked."""
    parts = Parts(Failing(1), lambda: ARRIVED + 10.001)
    assert parts.count(picture()) == [skipped(job(b"").frame, SkipReason.STALE)]
    assert parts.value("queue_age_seconds_count") == 0


@pytest.mark.parametrize(("payload", "max_pixels"), [(b"no picture", MAX_PIXELS), (picture(), 100)])
def test_what_cannot_be_decoded_is_dead_lettered_at_once(payload: bytes, max_pixels: int) -> None:
    """Another attempt wouldn't help."""
    parts = Parts(Failing(1), lambda: ARRIVED, max_pixels)
    (dead,) = parts.count(payload)
    assert isinstance(dead, Dead)
    assert dead.reason is DeadReason.UNDECODABLE
    assert parts.value("retries_total") == 0


def test_an_error_that_passes_is_only_a_retry() -> None:
    """The frame is counted by a later attempt."""
    parts = Parts(Failing(ATTEMPTS - 1), lambda: ARRIVED)
    (counted,) = parts.count(picture())
    assert isinstance(counted, Counted)
    assert parts.value("retries_total") == ATTEMPTS - 1


def test_an_error_that_stays_is_dead_lettered_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The letter names the error; a broken detector doesn't fill the log."""
    parts = Parts(FakeDetector(), lambda: ARRIVED)
    with caplog.at_level(logging.ERROR):
        settled = parts.count(RED, RED, picture())
    assert [type(each) for each in settled] == [Dead, Dead, Counted]
    assert isinstance(settled[0], Dead)
    assert (settled[0].reason, settled[0].message) == (DeadReason.FAILED, "RuntimeError: a red picture")
    assert settled[0].fields == tuple(FIELDS.items())
    assert parts.value("retries_total") == 2 * ATTEMPTS
    (record,) = caplog.records
    assert (record.entry_id, record.stream_name, record.attempts) == (job(b"").frame.entry_id, "cam", ATTEMPTS)


class Batching:
    """A detector that works on several pictures at the same time: a test says when it has found the hands of one."""

    name = "batching"
    engine = "fake"

    def __init__(self, at_once: int = 3) -> None:
        self.at_once = at_once
        self.pictures: list[Future[Hands]] = []
        self.refused = False

    def detect(self, image: np.ndarray) -> Hands:
        return self.submit(image).result(60.0)

    def submit(self, image: np.ndarray) -> Future[Hands]:  # noqa: ARG002
        if self.refused:
            raise MemoryError("no room")
        self.pictures.append(Future())
        return self.pictures[-1]

    def wait(self, number: int) -> None:
        """Waits until it has got so many pictures."""
        wait_until(lambda: len(self.pictures) == number)


def test_a_batching_detector_is_one() -> None:
    """The fake has what the real ones have."""
    assert isinstance(Batching(), BatchingDetector)
    assert not isinstance(FakeDetector(), BatchingDetector)


def test_no_thread_waits_for_a_batching_detector() -> None:
    """One thread decodes as many frames as keep the detector busy; then the next frame waits, where it may be superseded."""
    detector = Batching()
    parts = Parts(detector)
    for _ in range(5):
        parts.jobs.put(job(picture()))
    with parts.running():
        detector.wait(3)
        wait_until(lambda: parts.stages.in_progress._reserved == 3)
        assert (parts.jobs.qsize(), parts.value("in_progress"), parts.settled.qsize()) == (2, 3, 0)
        detector.pictures[1].set_result(ONE_HAND)
        detector.wait(4)
        assert parts.settled.get(timeout=60.0).hand_count == 1
        for future in (*detector.pictures[:1], *detector.pictures[2:]):
            future.set_result(Hands.empty())
        detector.wait(5)
        detector.pictures[4].set_result(Hands.empty())
    assert [parts.settled.get_nowait().hand_count for _ in range(4)] == [0] * 4
    assert parts.value("in_progress") == 0
    assert parts.metrics.registry.get_sample_value("hand_counter_frame_seconds_count") == 5


def test_an_error_of_a_batch_is_a_retry_of_each_of_its_frames() -> None:
    """Others go on; what fails again and again is dead-lettered, and so is what the detector doesn't take."""
    detector = Batching()
    parts = Parts(detector)
    parts.jobs.put(job(picture()))
    parts.jobs.put(job(picture()))
    with parts.running():
        detector.wait(2)
        for future in list(detector.pictures):
            future.set_exception(MemoryError("out of memory"))
        detector.wait(4)
        detector.pictures[2].set_result(ONE_HAND)
        assert isinstance(parts.settled.get(timeout=60.0), Counted)
        detector.refused = True
        detector.pictures[3].set_exception(MemoryError("out of memory"))
        dead = parts.settled.get(timeout=60.0)
        assert isinstance(dead, Dead)
        assert (dead.reason, dead.message) == (DeadReason.FAILED, "MemoryError: no room")
    assert parts.value("retries_total") == 2 + 2


def test_the_end_waits_for_frames_in_progress() -> None:
    """They are settled first, though no thread has them; one that never ends is waited for only so long."""
    detector = Batching()
    parts = Parts(detector)
    parts.jobs.put(job(picture()))
    with parts.running():
        detector.wait(1)
        parts.stages.in_progress.wait_until_empty(0.0)
        assert parts.settled.empty()
        assert parts.stages.in_progress.longest_seconds() > 0.0
        detector.pictures[0].set_result(ONE_HAND)
    assert isinstance(parts.settled.get_nowait(), Counted)
    assert parts.stages.in_progress.longest_seconds() == 0.0


def test_a_settled_frame_has_no_picture() -> None:
    """Whatever holds the frame still, the picture's memory is free before the delivery counts as settled."""
    detector = Batching()
    parts = Parts(detector)
    parts.jobs.put(job(picture()))
    with parts.running():
        detector.wait(1)
        (work,) = parts.stages.in_progress._works
        assert work.image is not None
        assert work.payload is None  # it is decoded
        detector.pictures[0].set_result(ONE_HAND)
        parts.settled.get(timeout=60.0)
        assert work.image is None


@pytest.mark.parametrize("batching", [False, True])
def test_an_error_keeps_no_picture(batching: bool) -> None:
    """An error refers to the calls that raised it, which have the picture: 25 MB of a large one until the next collection."""
    seen: list[weakref.ref[np.ndarray]] = []

    class Broken:
        name = "broken"
        engine = "fake"

        def detect(self, image: np.ndarray) -> Hands:
            seen.append(weakref.ref(image))
            if len(seen) == 1:
                raise MemoryError("out of memory")
            return ONE_HAND

    class BrokenBatching(Broken):
        at_once = 2

        def submit(self, image: np.ndarray) -> Future[Hands]:
            future: Future[Hands] = Future()
            try:
                future.set_result(self.detect(image))
            except MemoryError as error:
                future.set_exception(error)
            try:
                return future
            finally:
                del future

    gc.disable()
    try:
        (counted,) = Parts(BrokenBatching() if batching else Broken()).count(picture())
        assert isinstance(counted, Counted)
        assert [each() for each in seen] == [None, None]
    finally:
        gc.enable()


def test_busy_seconds_are_those_of_the_current_frame() -> None:
    """0 before and after it."""
    inside, go_on = threading.Event(), threading.Event()

    class Waiting:
        name = "waiting"
        engine = "fake"

        def detect(self, image: np.ndarray) -> Hands:  # noqa: ARG002
            inside.set()
            go_on.wait(60.0)
            return ONE_HAND

    parts = Parts(Waiting())
    busy = parts.stages.in_progress.longest_seconds
    assert busy() == 0.0
    thread = threading.Thread(target=parts.count, args=(picture(),))
    thread.start()
    assert inside.wait(60.0)
    wait_until(lambda: busy() > 0.0)
    go_on.set()
    thread.join(60.0)
    assert busy() == 0.0
