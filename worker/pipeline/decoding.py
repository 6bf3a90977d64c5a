"""The first stage: takes frames whose turn it is, and decodes their pictures. Several threads do so side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.picture import decode
from worker.pipeline.work import InProgress, Work
from worker.queue.delivery import Job, Settled, skipped
from worker.queue.frame import SkipReason

if TYPE_CHECKING:
    from worker.metrics import Metrics
    from worker.pipeline.attempts import Attempts


class Decoding:
    """Decodes one picture after the other. ``run`` is for a thread of its own."""

    def __init__(
        self,
        next_job: Callable[[], Job | None],
        in_progress: InProgress,
        attempts: Attempts,
        metrics: Metrics,
        *,
        detect: Callable[[Work], None],
        settle: Callable[[Work, Settled], None],
        now: Callable[[], float],
        max_age: float,
        max_pixels: int,
    ) -> None:
        """Connects the stage with its neighbours.

        Args:
            next_job: waits for the next admitted frame and returns it; None at the end.
            in_progress: says when another frame may be begun.
            attempts: says what happens after an error.
            metrics: what is counted for operators.
            detect: the next stage.
            settle: takes frames that end here.
            now: Redis' clock, Unix seconds.
            max_age: seconds after which a frame is skipped.
            max_pixels: a larger picture isn't decoded.
        """
        self._next_job = next_job
        self._in_progress = in_progress
        self._attempts = attempts
        self._metrics = metrics
        self._detect = detect
        self._settle = settle
        self._now = now
        self._max_age = max_age
        self._max_pixels = max_pixels

    def run(self) -> None:
        """Works until there is no next job."""
        while True:
            self._in_progress.reserve()
            job = self._next_job()
            if job is None:
                self._in_progress.cancel()
                return
            work = Work(job.frame, job.delivery, job.payload, self._now() - job.frame.arrived_at)
            del job  # it has the payload, which goes when it is decoded
            self._in_progress.begin(work)
            self._take(work)
            del work

    def _take(self, work: Work) -> None:
        frame = work.frame
        if frame.live and work.age > self._max_age:
            self._settle(work, skipped(frame, SkipReason.STALE))
            return
        work.age = max(0.0, work.age)  # Redis' clock may have been set back since
        if frame.live:
            self._metrics.queue_age.observe(work.age)
        while work.image is None:
            started = time.perf_counter()
            try:
                work.image = decode(work.payload or b"", self._max_pixels)
            except Exception as error:
                if dead := self._attempts.failed(work, error):
                    self._settle(work, dead)
                    return
            work.decode_s = time.perf_counter() - started
        work.payload = None
        self._detect(work)
