"""What happens to a frame that can't be counted, whichever stage it fails in."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from worker.picture_header import PictureError
from worker.queue.delivery import Dead, dead_letter
from worker.queue.frame import DeadReason

if TYPE_CHECKING:
    from worker.metrics import Metrics
    from worker.pipeline.work import Work

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a frame is tried in a row if counting it raises an error: the cause (memory, a GPU) may pass."""

LOG_INTERVAL_S = 10.0
"""Between two failures that are logged with their traceback: a broken detector fails on every frame."""


class Attempts:
    """Decides whether a stage tries again. For any thread."""

    def __init__(self, metrics: Metrics) -> None:
        """Takes what is counted for operators."""
        self._metrics = metrics
        self._log_at = 0.0

    def failed(self, work: Work, error: Exception) -> Dead | None:
        """Takes the error of an attempt; returns what settles the frame, or None: the stage that failed is to try again."""
        if isinstance(error, PictureError):
            return dead_letter(work.delivery, DeadReason.UNDECODABLE, str(error))
        self._metrics.retries.inc()
        work.attempts += 1
        if work.attempts < ATTEMPTS:
            return None
        self._log(work, error)
        return dead_letter(work.delivery, DeadReason.FAILED, f"{type(error).__name__}: {error}")

    def _log(self, work: Work, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_INTERVAL_S
            about = {"entry_id": work.frame.entry_id, "stream_name": work.frame.stream_name, "attempts": ATTEMPTS}
            logger.error("a frame can't be counted and is dead-lettered", extra=about, exc_info=error)
