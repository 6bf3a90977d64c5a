"""What a counting thread does with a job."""

import json
import logging
import queue as queues
import threading
from collections.abc import Callable

import numpy as np
import pytest
from support.models.fake_detector import ONE_HAND, FakeDetector
from support.processes.workers import RED, picture
from support.waiting import wait_until

from worker.hands.detection import HandDetector, Hands
from worker.metrics import Metrics
from worker.picture_header import MAX_PIXELS
from worker.pipeline.counting import ATTEMPTS, CountWorker
from worker.pipeline.smoothing import Smoother
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
    """A count worker and its neighbours."""

    def __init__(self, detector: HandDetector, now: Callable[[], float], max_pixels: int = MAX_PIXELS) -> None:
        self.jobs: queues.Queue[Job | None] = queues.Queue()
        self.settled: queues.SimpleQueue[Settled | None] = queues.SimpleQueue()
        self.metrics = Metrics()
        self.worker = CountWorker(
            detector, self.jobs.get, self.settled, self.metrics, now=now, max_age=10.0, max_pixels=max_pixels
        )

    def count(self, *payloads: bytes) -> list[Settled | None]:
        """Counts jobs with these payloads; returns how their deliveries are settled."""
        for payload in payloads:
            self.jobs.put(job(payload))
        self.jobs.put(None)
        self.worker.run()
        return [self.settled.get_nowait() for _ in payloads]

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
        parts = Parts(FakeDetector(), now=lambda: ARRIVED)
        parts.worker._smoother = smoother
        if smoother:
            for ts in (10.5, 11.0, 11.5, 12.0):
                smoother.add("cam", ts, 0)
        (counted,) = parts.count(picture())
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

    parts = Parts(Waiting(), lambda: ARRIVED)
    assert parts.worker.busy_seconds() == 0.0
    thread = threading.Thread(target=parts.count, args=(picture(),))
    thread.start()
    assert inside.wait(60.0)
    wait_until(lambda: parts.worker.busy_seconds() > 0.0)
    go_on.set()
    thread.join(60.0)
    assert parts.worker.busy_seconds() == 0.0
