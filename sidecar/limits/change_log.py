"""One log line for each limit that changes, at most LINES_PER_S in a second; the rest are counted and logged as one line.

Nothing is done while no limit changes: the table calls the log at each change, and a timer runs only while there are
changes that weren't logged.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from handcounter.pacing.limits import Limit

logger = logging.getLogger(__name__)

LINES_PER_S: Final = 10
"""Enough for changes made by hand. A script that sets a thousand limits shouldn't fill the log, nor hold up decisions."""

PERIOD_S: Final = 1.0


class LineBudget:
    """How many lines may still be logged. Pure: real time is an argument, seconds by a monotonic clock.

    Args:
        lines: How many lines a period may have. A period begins with its first line.
    """

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._left = lines
        self._withheld = 0
        self.ends_at = -float("inf")
        """When the period ends."""

    def spend(self, now: float) -> bool:
        """Returns whether a line may be logged; if not, counts it as withheld."""
        if now >= self.ends_at:
            self.ends_at = now + PERIOD_S
            self._left = self._lines
        if self._left:
            self._left -= 1
            return True
        self._withheld += 1
        return False

    @property
    def withheld(self) -> int:
        """How many lines were withheld since they were last taken."""
        return self._withheld

    def take_withheld(self) -> int:
        """Returns how many lines were withheld, and counts from 0 again."""
        withheld, self._withheld = self._withheld, 0
        return withheld


class ChangeLog:
    """Logs changed limits. Its ``record`` is an ``on_change`` of the fps table; it is called in the event loop.

    Args:
        clock: Real time, seconds by a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budget = LineBudget(LINES_PER_S)

    def record(self, stream_name: str, old_fps: float, limit: Limit) -> None:
        """Logs a change, or counts it if too many were logged within a second.

        Args:
            stream_name: The stream; the wildcard for all streams without an override.
            old_fps: The limit before, frames per second.
            limit: The limit now, and its source.
        """
        source = limit.source.name.lower()
        fields = {"stream_name": stream_name, "old_fps": old_fps, "new_fps": limit.fps, "source": source}
        self._log("limit changed", fields)

    def record_pattern(self, pattern: str, old_fps: float | None, new_fps: float | None) -> None:
        """Logs a changed pattern, in place of the changes of the streams that it matches.

        Args:
            pattern: The pattern.
            old_fps: Its limit before, frames per second; None if it is new.
            new_fps: Its limit now; None if it was removed.
        """
        self._log("pattern changed", {"pattern": pattern, "old_fps": old_fps, "new_fps": new_fps})

    def _log(self, message: str, fields: dict[str, object]) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        now = self._clock()
        if self._budget.spend(now):
            logger.info(message, extra=fields)
        elif self._budget.withheld == 1:
            asyncio.get_running_loop().call_later(self._budget.ends_at - now, self._summarize)

    def _summarize(self) -> None:
        logger.info("more limits changed", extra={"changes": self._budget.take_withheld()})
