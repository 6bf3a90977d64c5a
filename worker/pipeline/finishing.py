"""The last stage: makes the result of a frame whose hands are found."""

from __future__ import annotations

import queue as queues
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from worker.pipeline.detecting import outcome
from worker.queue.delivery import Counted, Settled
from worker.results import FrameResult

if TYPE_CHECKING:
    from worker.hands.detection import Hands
    from worker.metrics import Metrics
    from worker.pipeline.attempts import Attempts
    from worker.pipeline.detecting import Detecting, Found
    from worker.pipeline.smoothing import Smoother
    from worker.pipeline.work import InProgress, Work
    from worker.preview import Previews


class Finishing:
    """Makes results. ``run`` is for threads of its own, `finish` for any."""

    def __init__(
        self,
        in_progress: InProgress,
        attempts: Attempts,
        metrics: Metrics,
        *,
        settle: Callable[[Work, Settled], None],
        previews: Previews | None = None,
        smoother: Smoother | None = None,
    ) -> None:
        """Connects the stage with its neighbours.

        Args:
            in_progress: the frames that are being counted.
            attempts: says what happens after an error.
            metrics: what is counted for operators.
            settle: takes frames that are counted, or can't be.
            previews: draws what was counted; None: nobody does.
            smoother: smooths the counts of each stream; None: nobody does.
        """
        self._in_progress = in_progress
        self._attempts = attempts
        self._metrics = metrics
        self._settle = settle
        self._previews = previews
        self._smoother = smoother
        self._waiting: queues.SimpleQueue[tuple[Detecting, Work, Future[Hands]] | None] = queues.SimpleQueue()

    def put(self, detecting: Detecting, work: Work, future: Future[Hands]) -> None:
        """Lets a thread of this stage finish a frame."""
        self._waiting.put((detecting, work, future))

    def close(self, threads: int) -> None:
        """Ends this many threads, after what they have to finish."""
        for _ in range(threads):
            self._waiting.put(None)

    def run(self) -> None:
        """Finishes frames until it is closed."""
        while (each := self._waiting.get()) is not None:
            detecting, work, future = each
            self.finish(detecting, work, outcome(future))
            del each, detecting, work, future  # they have the picture

    def finish(self, detecting: Detecting, work: Work, found: Found) -> None:
        """Settles a frame whose hands are found, or gives it to its detector again."""
        if isinstance(found, Exception):
            self._failed(detecting, work, found)
            return
        try:
            counted = self._counted(detecting, work, found)
        except Exception as error:
            self._failed(detecting, work, error)
        else:
            self._settle(work, counted)

    def _failed(self, detecting: Detecting, work: Work, error: Exception) -> None:
        if dead := self._attempts.failed(work, error):
            self._settle(work, dead)
        else:
            detecting.put(work)

    def _counted(self, detecting: Detecting, work: Work, hands: Hands) -> Counted:
        assert work.image is not None
        frame, detector, hand_count = work.frame, detecting.detector, len(hands)
        height, width = work.image.shape[:2]
        smoothed = self._smoother.add(frame.stream_name, frame.ts, hand_count) if self._smoother else None
        result = FrameResult(
            stream_name=frame.stream_name,
            ts=frame.ts,
            backend=detector.name,
            engine=detector.engine,
            width=width,
            height=height,
            hands=hands,
            decode_s=work.decode_s,
            detect_s=work.detect_s,
            hand_count_smoothed=smoothed,
            picture=work.image,
        )
        counted = Counted(
            frame.entry_id,
            frame.stream_name,
            frame.ts,
            hand_count,
            result.to_json(frame.entry_id, work.age),
            frame.frame_key,
            work.age,
            width,
            height,
            self._previews.draw(result, self._beside(detecting)) if self._previews else b"",
        )
        self._metrics.seconds.observe(work.decode_s + time.perf_counter() - work.submitted_at)
        return counted

    def _beside(self, detecting: Detecting) -> int:
        """Returns how many frames shared the time in which the hands were found."""
        return max(1, len(self._in_progress)) if detecting.at_once > 1 else 1
