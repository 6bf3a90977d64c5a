"""What a running worker says about itself: its health, and a line about its progress now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.metrics import Metrics

if TYPE_CHECKING:
    from handcounter.client import RateLimiter
    from worker.pipeline.pipeline import Pipeline
    from worker.queue.partitioned import WorkerQueue

logger = logging.getLogger(__name__)

STARTING_S = 600.0
"""A start that takes longer is stuck, for example on a GPU that hangs while HaMeR's graphs are captured."""

STUCK_S = 60.0
"""A worker without progress for longer is unhealthy; no frame takes that long."""


class WorkerStatus:
    """Reads the state of a worker's parts. For any thread."""

    def __init__(self, queue: WorkerQueue, limiter: RateLimiter, pipeline: Pipeline, metrics: Metrics) -> None:
        self._queue = queue
        self._limiter = limiter
        self._pipeline = pipeline
        self._metrics = metrics
        metrics.sidecar_up.set_function(lambda: float(not limiter.sidecar_unreachable))
        metrics.dropped_unread.set_function(lambda: queue.dropped_unread)
        metrics.redis_up.set_function(lambda: float(not queue.problem))
        metrics.partitions_failing.set_function(lambda: sum(part.commands.failing for part in queue.parts))

    def health(self) -> tuple[bool, dict[str, object]]:
        """Returns whether frames can be counted, and details. Without a sidecar they can: the worker paces locally."""
        stuck = self._pipeline.stuck_seconds()
        details: dict[str, object] = {
            "redis": self._queue.problem or "ok",
            "sidecar": "unreachable" if self._limiter.sidecar_unreachable else "ok",
            "consumer": self._queue.consumer,
            "seconds_since_progress": round(stuck, 1),
        }
        return not self._queue.problem and not self._pipeline.failed and stuck < STUCK_S, details

    def alive(self) -> tuple[bool, dict[str, object]]:
        """Returns whether the threads make progress, and details. Without Redis they do; else a restart helps."""
        stuck = self._pipeline.stuck_seconds()
        return not self._pipeline.failed and stuck < STUCK_S, {"seconds_since_progress": round(stuck, 1)}

    def totals(self) -> dict[str, int]:
        """Returns how many deliveries this worker has settled in each way, and how many the queue dropped unread."""
        metrics = self._metrics
        return {
            "counted": metrics.total(metrics.counted),
            "skipped": metrics.total(metrics.skipped),
            "dead": metrics.total(metrics.dead),
            "dropped_unread": self._queue.dropped_unread,
        }

    def log_progress(self, done: threading.Event, interval: float) -> None:
        """Logs a line every `interval` seconds until done, unless nothing has changed since the line before."""
        before = self.totals()
        while not done.wait(min(interval, threading.TIMEOUT_MAX)):
            totals = self.totals()
            if totals != before:
                rate = (totals["counted"] - before["counted"]) / interval
                logger.info("progress", extra={**totals, "counted_per_second": round(rate, 1)})
            before = totals


class Health:
    """What /healthz and /livez say: that the worker starts (loads its models), then what its status says. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._status: WorkerStatus | None = None

    def follow(self, status: WorkerStatus) -> None:
        """From now on, says what this status says."""
        self._status = status

    def __call__(self) -> tuple[bool, dict[str, object]]:
        """Returns whether frames can be counted, and details."""
        return self._status.health() if self._status else (False, {"state": "starting"})

    def alive(self) -> tuple[bool, dict[str, object]]:
        """Returns whether a restart wouldn't help, and details."""
        if self._status:
            return self._status.alive()
        seconds = self._clock() - self._began
        return seconds < STARTING_S, {"state": "starting", "seconds": round(seconds, 1)}
