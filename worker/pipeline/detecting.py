"""The second stage: gives pictures to the detector, which may work on many of them at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

from worker.hands.detection import submitted

if TYPE_CHECKING:
    from worker.hands.detection import HandDetector, Hands
    from worker.pipeline.work import Work

Found: TypeAlias = "Future[Hands]"


class Detecting:
    """Has one detector find the hands in pictures. For any thread, if the detector is."""

    def __init__(
        self,
        detector: HandDetector,
        *,
        finish: Callable[[Detecting, Work, Found], None],
        finish_later: Callable[[Detecting, Work, Found], None],
    ) -> None:
        """Connects the stage with its neighbours.

        Args:
            detector: finds the hands.
            finish: the next stage, in this thread: for hands that were found at once.
            finish_later: the next stage, in a thread of its own: for hands that are found later, in the detector's thread.
        """
        self.detector = detector
        self._finish = finish
        self._finish_later = finish_later

    def put(self, work: Work) -> None:
        """Takes a decoded frame, for its first attempt or another one."""
        assert work.image is not None
        work.submitted_at = time.perf_counter()
        try:
            found = submitted(self.detector, work.image)
        except Exception as error:
            found = Future()
            found.set_exception(error)
        if found.done():
            work.detect_s = time.perf_counter() - work.submitted_at
            self._finish(self, work, found)
        else:
            found.add_done_callback(lambda done: self._found(work, done))

    def _found(self, work: Work, found: Found) -> None:
        work.detect_s = time.perf_counter() - work.submitted_at
        self._finish_later(self, work, found)
