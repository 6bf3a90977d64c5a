"""The threads that count hands. They do no network I/O: jobs come with their pictures, settled deliveries leave on a queue."""

import logging
import queue as queues
import time
from collections.abc import Callable
from dataclasses import replace

from worker.frame_counter import count_hands
from worker.hands.detection import HandDetector
from worker.metrics import Metrics
from worker.picture_header import PictureError
from worker.pipeline.smoothing import Smoother
from worker.preview import Previews
from worker.queue.delivery import Counted, Job, Settled, dead_letter, skipped
from worker.queue.frame import DeadReason, SkipReason

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a frame is tried in a row if counting it raises an error: the cause (memory, a GPU) may pass."""

LOG_INTERVAL_S = 10.0
"""Between two failures that are logged with their traceback: a broken detector fails on every frame."""


class CountWorker:
    """Counts the hands of one job after the other. ``run`` is for a thread of its own."""

    def __init__(
        self,
        detector: HandDetector,
        next_job: Callable[[], Job | None],
        settled: queues.SimpleQueue[Settled | None],
        metrics: Metrics,
        *,
        now: Callable[[], float],
        max_age: float,
        max_pixels: int,
        previews: Previews | None = None,
        smoother: Smoother | None = None,
    ) -> None:
        """Connects a detector with its neighbours.

        Args:
            detector: finds the hands; used by this thread alone.
            next_job: waits for the next admitted frame and returns it; None at the end.
            settled: where settled deliveries go.
            metrics: what is counted for operators.
            now: Redis' clock, Unix seconds.
            max_age: seconds after which a frame is skipped.
            max_pixels: a larger picture isn't decoded.
            previews: draws what was counted; None: nobody does.
            smoother: smooths the counts of each stream; None: nobody does.
        """
        self._smoother = smoother
        self._previews = previews
        self._detector = detector
        self._next_job = next_job
        self._settled = settled
        self._metrics = metrics
        self._now = now
        self._max_age = max_age
        self._max_pixels = max_pixels
        self._log_at = 0.0
        self._busy_since: float | None = None

    def run(self) -> None:
        """Counts until there is no next job."""
        while (job := self._next_job()) is not None:
            self._busy_since = time.monotonic()
            settled = self._settle(job)
            del job  # before it counts as settled, and makes room for the next picture
            self._settled.put(settled)
            self._busy_since = None

    def busy_seconds(self) -> float:
        """Returns how long the current frame has taken so far; 0 if there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _settle(self, job: Job) -> Settled:
        age = self._now() - job.frame.arrived_at
        if job.frame.live and age > self._max_age:
            return skipped(job.frame, SkipReason.STALE)
        age = max(0.0, age)  # Redis' clock may have been set back since
        if job.frame.live:
            self._metrics.queue_age.observe(age)
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._count(job, age)
            except PictureError as error:
                return dead_letter(job.delivery, DeadReason.UNDECODABLE, str(error))
            except Exception as error:
                self._metrics.retries.inc()
                if attempt == ATTEMPTS:
                    self._log(job, error)
                    return dead_letter(job.delivery, DeadReason.FAILED, f"{type(error).__name__}: {error}")

    def _count(self, job: Job, age: float) -> Counted:
        started = time.perf_counter()
        frame = job.frame
        result = count_hands(frame.stream_name, frame.ts, job.payload, self._detector, self._max_pixels)
        if self._smoother:
            smoothed = self._smoother.add(frame.stream_name, frame.ts, result.hand_count)
            result = replace(result, hand_count_smoothed=smoothed)
        counted = Counted(
            frame.entry_id,
            frame.stream_name,
            frame.ts,
            result.hand_count,
            result.to_json(frame.entry_id, age),
            frame.frame_key,
            age,
            result.width,
            result.height,
            self._previews.draw(result) if self._previews else b"",
        )
        self._metrics.seconds.observe(time.perf_counter() - started)
        return counted

    def _log(self, job: Job, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_INTERVAL_S
            about = {"entry_id": job.frame.entry_id, "stream_name": job.frame.stream_name, "attempts": ATTEMPTS}
            logger.error("a frame can't be counted and is dead-lettered", extra=about, exc_info=error)
