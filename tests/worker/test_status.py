"""What a worker says about itself."""

import logging
import threading
from types import SimpleNamespace

import pytest

from worker.metrics import Metrics
from worker.queue.frame import SkipReason
from worker.status import STARTING_S, STUCK_S, Health, WorkerStatus


class Parts:
    """The parts of a worker, in a state that the test sets."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.queue = SimpleNamespace(problem="", consumer="pod-1", dropped_unread=0)
        self.limiter = SimpleNamespace(sidecar_unreachable=False)
        self.pipeline = SimpleNamespace(failed=False, stuck=0.25, stuck_seconds=lambda: self.pipeline.stuck)
        self.status = WorkerStatus(self.queue, self.limiter, self.pipeline, self.metrics)


@pytest.mark.parametrize(
    ("part", "state", "healthy", "detail"),
    [
        ("queue", {}, True, ("redis", "ok")),
        ("queue", {"problem": "TimeoutError: no reply"}, False, ("redis", "TimeoutError: no reply")),
        ("limiter", {"sidecar_unreachable": True}, True, ("sidecar", "unreachable")),
        ("limiter", {"sidecar_unreachable": False}, True, ("sidecar", "ok")),
        ("pipeline", {"failed": True}, False, ("consumer", "pod-1")),
        ("pipeline", {"stuck": STUCK_S - 0.1}, True, ("seconds_since_progress", 59.9)),
        ("pipeline", {"stuck": STUCK_S}, False, ("seconds_since_progress", 60.0)),
    ],
)
def test_health(part: str, state: dict[str, object], healthy: bool, detail: tuple[str, object]) -> None:
    """A worker without a sidecar paces locally and is healthy; without Redis or progress it isn't."""
    parts = Parts()
    vars(getattr(parts, part)).update(state)
    found, details = parts.status.health()
    assert found == healthy
    assert detail in details.items()


@pytest.mark.parametrize(
    ("part", "state", "alive"),
    [
        ("queue", {"problem": "TimeoutError: no reply"}, True),
        ("limiter", {"sidecar_unreachable": True}, True),
        ("pipeline", {"stuck": STUCK_S - 0.1}, True),
        ("pipeline", {"stuck": STUCK_S}, False),
        ("pipeline", {"failed": True}, False),
    ],
)
def test_liveness(part: str, state: dict[str, object], alive: bool) -> None:
    """A worker is restarted only for what a restart repairs: a thread that is stuck, but no Redis that is unreachable."""
    parts = Parts()
    vars(getattr(parts, part)).update(state)
    found, details = parts.status.alive()
    assert found == alive
    assert details == {"seconds_since_progress": round(parts.pipeline.stuck, 1)}


@pytest.mark.parametrize(("seconds", "alive"), [(0.0, True), (STARTING_S - 1.0, True), (STARTING_S, False)])
def test_liveness_at_the_start(seconds: float, alive: bool) -> None:
    """A start may take minutes, in which the worker isn't ready; one that goes on for longer is stuck."""
    clock = SimpleNamespace(now=100.0)
    health = Health(lambda: clock.now)
    clock.now += seconds
    assert health() == (False, {"state": "starting"})
    assert health.alive() == (alive, {"state": "starting", "seconds": seconds})
    health.follow(Parts().status)
    assert health.alive()[0]


def test_gauges_follow_the_parts() -> None:
    """Prometheus reads them when it asks."""
    parts = Parts()
    names = ("sidecar_up", "redis_up", "dropped_unread")

    def read() -> list[float | None]:
        return [parts.metrics.registry.get_sample_value(f"hand_counter_{name}") for name in names]

    assert read() == [1.0, 1.0, 0.0]
    parts.limiter.sidecar_unreachable, parts.queue.problem, parts.queue.dropped_unread = True, "OOM", 3
    assert read() == [0.0, 0.0, 3.0]


def test_totals_are_summed_over_reasons() -> None:
    """They are this worker's own, except for what the queue dropped."""
    parts = Parts()
    parts.metrics.counted.inc(5)
    for reason in SkipReason:
        parts.metrics.skipped.labels(reason.value).inc()
    parts.metrics.dead.labels("failed").inc(2)
    parts.queue.dropped_unread = 7
    assert parts.status.totals() == {"counted": 5, "skipped": len(SkipReason), "dead": 2, "dropped_unread": 7}


def test_progress_is_logged_if_there_is_any(caplog: pytest.LogCaptureFixture) -> None:
    """A line per interval with the totals and the rate, but none for an interval in which nothing happened."""
    parts = Parts()
    steps = iter([(3, False), (0, False), (8, False), (0, True)])

    class Done(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == 2.0
            counted, done = next(steps)
            parts.metrics.counted.inc(counted)
            return done

    with caplog.at_level(logging.INFO):
        parts.status.log_progress(Done(), 2.0)
    assert [(record.counted, record.counted_per_second) for record in caplog.records] == [(3, 1.5), (11, 4.0)]


def test_an_infinite_interval_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The wait fits what a thread can wait for."""
    parts = Parts()
    done = threading.Event()
    done.set()
    with caplog.at_level(logging.INFO):
        parts.status.log_progress(done, float("inf"))
    assert not caplog.records
