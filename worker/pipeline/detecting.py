"""The second stage: gives pictures to the detector, which may work on many of them at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

from worker.hands.detection import BatchingDetector, Hands, at_once

if TYPE_CHECKING:
    from worker.hands.detection import HandDetector
    from worker.pipeline.work import Work

Found: TypeAlias = Hands | Exception
"""What a detector found, or its error."""


class Detecting:
    """Has one detector find the hands in pictures. For any thread, if the detector is."""

    def __init__(
        self,
        detector: HandDetector,
        *,
        finish: Callable[[Detecting, Work, Found], None],
        finish_later: Callable[[Detecting, Work, Future[Hands]], None],
    ) -> None:
        """Connects the stage with its neighbours.

        Args:
            detector: finds the hands.
            finish: the next stage, in this thread: for hands that were found at once.
            finish_later: the next stage, in a thread of its own: for hands that are found later, in the detector's thread.
        """
        self.detector = detector
        self.at_once = at_once(detector)
        # Asked once: for a frame it would take as long as all else that this stage does.
        self._submit = detector.submit if isinstance(detector, BatchingDetector) else None
        self._finish = finish
        self._finish_later = finish_later

    def put(self, work: Work) -> None:
        """Takes a decoded frame, for its first attempt or another one."""
        assert work.image is not None
        work.submitted_at = time.perf_counter()
        found: Found
        try:
            if self._submit is None:
                found = self.detector.detect(work.image)
            else:
                future = self._submit(work.image)
                if not future.done():
                    future.add_done_callback(lambda done: self._found(work, done))
                    return
                found = outcome(future)
                del future  # its error refers to this call
        except Exception as error:
            found = error
        work.detect_s = time.perf_counter() - work.submitted_at
        try:
            self._finish(self, work, found)
        finally:
            del found  # an error refers to this call, and to those of the detector, which have the picture

    def _found(self, work: Work, future: Future[Hands]) -> None:
        work.detect_s = time.perf_counter() - work.submitted_at
        self._finish_later(self, work, future)


def outcome(future: Future[Hands]) -> Found:
    """Returns what a future that is done has."""
    try:
        return future.result()
    except Exception as error:
        return error
    finally:
        del future  # its error refers to this call
