"""Says where the positions in a film jump: a clock that was set anew, or a long gap."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

logger = logging.getLogger(__name__)

WARN_EVERY_S: Final = 60.0
"""Seconds between two lines: a damaged film may jump with every packet."""


class ClockJumps:
    """The jumps of one film."""

    def __init__(self, about: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        """Takes names for the log, without secrets, and a clock in seconds."""
        self._about = about
        self._clock = clock
        self._warn_at = -math.inf
        self._unsaid = 0

    def __call__(self, before: float, after: float, *, is_gap: bool) -> None:
        """Notes a jump between two positions, seconds; `is_gap`: the capture times have it too, so nothing fills it."""
        now = self._clock()
        if now < self._warn_at:
            self._unsaid += 1
            return
        fields = {**self._about, "from": round(before, 3), "to": round(after, 3), "not_logged": self._unsaid}
        if is_gap:
            logger.warning("the film has a long gap, in which nothing is published", extra=fields)
        else:
            logger.warning("the film's clock jumps; its frames go on without a gap", extra=fields)
        self._warn_at, self._unsaid = now + WARN_EVERY_S, 0
