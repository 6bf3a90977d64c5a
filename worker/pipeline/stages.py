"""The stages between a frame whose turn it is and its result. None of them knows Redis.

    next job ─▶ decoding ─▶ detecting ─▶ finishing ─▶ settled
                 threads     the detector's own batches

A detector that works on one picture at a time, as on a CPU, does so in the thread that decoded it, which then makes the result,
too. One that works on many, as on a GPU, gives a future: the thread decodes the next picture meanwhile, and threads of the last
stage make the results. So the frames in progress aren't bound to threads. How many there may be is the detector's to say.
"""

from __future__ import annotations

import queue as queues
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from worker.hands.detection import at_once
from worker.pipeline.attempts import Attempts
from worker.pipeline.decoding import Decoding
from worker.pipeline.detecting import Detecting
from worker.pipeline.finishing import Finishing
from worker.pipeline.work import InProgress, Work

if TYPE_CHECKING:
    from worker.hands.detection import HandDetector
    from worker.metrics import Metrics
    from worker.pipeline.smoothing import Smoother
    from worker.preview import Previews
    from worker.queue.delivery import Job, Settled

FINISHING_THREADS = 2
"""One may be drawing a preview, without the interpreter's lock, while the other makes results."""


class Stages:
    """Counts the hands of frames."""

    def __init__(
        self,
        detectors: Sequence[HandDetector],
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
        """Connects the stages; starts nothing.

        Args:
            detectors: one for each decoding thread.
            next_job: waits for the next admitted frame and returns it; None at the end.
            settled: where settled deliveries go.
            metrics: what is counted for operators.
            now: Redis' clock, Unix seconds.
            max_age: seconds after which a frame is skipped.
            max_pixels: a larger picture isn't decoded.
            previews: draws what was counted; None: nobody does.
            smoother: smooths the counts of each stream; None: nobody does.
        """
        self._settled = settled
        self.in_progress = InProgress(max(len(detectors), *map(at_once, detectors)))
        attempts = Attempts(metrics)
        self._finishing = Finishing(
            self.in_progress, attempts, metrics, settle=self._settle, previews=previews, smoother=smoother
        )
        self._decoding = [
            Decoding(
                next_job,
                self.in_progress,
                attempts,
                metrics,
                detect=Detecting(detector, finish=self._finishing.finish, finish_later=self._finishing.put).put,
                settle=self._settle,
                now=now,
                max_age=max_age,
                max_pixels=max_pixels,
            )
            for detector in detectors
        ]
        metrics.in_progress.set_function(self.in_progress.__len__)

    def decoding(self) -> list[Callable[[], None]]:
        """Returns what runs in a thread each, and ends when there is no next job."""
        return [each.run for each in self._decoding]

    def finishing(self) -> list[Callable[[], None]]:
        """Returns what runs in a thread each, and ends after `finish`."""
        return [self._finishing.run] * FINISHING_THREADS

    def finish(self, seconds: float) -> None:
        """Waits until the frames in progress are settled, for this many seconds at most; then ends the last stage's threads."""
        self.in_progress.wait_until_empty(seconds)
        self._finishing.close(FINISHING_THREADS)

    def _settle(self, work: Work, settled: Settled) -> None:
        work.image = work.payload = None  # before it counts as settled, and makes room for the next picture
        self._settled.put(settled)
        self.in_progress.end(work)
