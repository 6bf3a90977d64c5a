"""The threads that count hands. They do no network I/O: jobs come in by one queue, endings go out by another."""

import logging
import queue as queues
import time
from collections.abc import Callable
from typing import Protocol

from worker.metrics import Metrics
from worker.picture import PictureError
from worker.queue.delivery import Ending, Job, Skip, counted, dead
from worker.queue.frame import DeadReason, SkipReason
from worker.results import FrameResult

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a frame whose counting raises an error is tried, in a row: an error may pass (memory, a GPU)."""

LOG_INTERVAL_S = 10.0
"""Between two failures that are logged with their traceback: a broken detector fails on every frame."""


class Count(Protocol):
    """What is done with an admitted frame."""

    def __call__(self, stream_name: str, ts: float, picture: bytes) -> FrameResult | SkipReason:
        """Counts the hands of an encoded picture, or says why not."""
        ...


class Counting:
    """Takes jobs and counts their hands. ``run`` is for a thread of its own."""

    def __init__(
        self,
        count: Count,
        jobs: "queues.Queue[Job | None]",
        endings: "queues.SimpleQueue[Ending | Skip | None]",
        metrics: Metrics,
        *,
        now: Callable[[], float],
        max_age: float,
    ) -> None:
        """Takes what counts a frame, its neighbours, Redis' clock, and the age at which a frame isn't worth it."""
        self._count = count
        self._jobs = jobs
        self._endings = endings
        self._metrics = metrics
        self._now = now
        self._max_age = max_age
        self._log_at = 0.0
        self._busy_since: float | None = None

    def run(self) -> None:
        """Works until it finds None among the jobs."""
        while (job := self._jobs.get()) is not None:
            self._busy_since = time.monotonic()
            self._endings.put(self._end(job))
            self._busy_since = None

    def busy_seconds(self) -> float:
        """How long the frame in work has taken so far; 0 if there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _end(self, job: Job) -> Ending | Skip:
        frame = job.frame
        age = self._now() - frame.arrived_at
        if age > self._max_age:
            return Skip(frame.entry_id, SkipReason.STALE)
        age = max(0.0, age)  # an id may lie in the future: publishers may choose it, and Redis' clock may be set back
        self._metrics.queue_age.observe(age)
        attempt = 1
        while True:
            started = time.perf_counter()
            try:
                result = self._count(frame.stream_name, frame.ts, job.payload)
                if isinstance(result, SkipReason):
                    return Skip(frame.entry_id, result)
                text = result.to_json(frame.entry_id, age)
            except PictureError as error:
                return dead(job.delivery, DeadReason.UNDECODABLE, str(error))
            except Exception as error:
                self._metrics.retries.inc()
                if attempt == ATTEMPTS:
                    self._log(job, error)
                    return dead(job.delivery, DeadReason.FAILED, f"{type(error).__name__}: {error}")
                attempt += 1
                continue
            self._metrics.seconds.observe(time.perf_counter() - started)
            return counted(frame.entry_id, frame.stream_name, frame.ts, text, result.hand_count)

    def _log(self, job: Job, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_INTERVAL_S
            logger.error("entry %s of stream %r failed", job.delivery.entry_id, job.frame.stream_name, exc_info=error)
