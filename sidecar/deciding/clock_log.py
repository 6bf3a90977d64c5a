"""Warns once of a stream whose clock restarts, and once of one whose clock goes back and forth, with the likely cause."""

import logging
import time
from collections.abc import Callable

from sidecar.deciding.stream import ClockChange, Stream
from sidecar.limits.change_log import LINES_PER_S, LineBudget

logger = logging.getLogger(__name__)


class ClockLog:
    """Its ``record`` is the ``on_clock_change`` of the roster. At most LINES_PER_S lines in a second; metrics have the rest.

    Args:
        clock: Real time, seconds by a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budget = LineBudget(LINES_PER_S)

    def record(self, stream: Stream, change: ClockChange) -> None:
        """Warns if this is the first restart of the stream's clock, or the first time that it went back and forth."""
        restarts, jumps = stream.clock_restarts, stream.clock_jumps
        own = restarts if change is ClockChange.RESTART else jumps
        if own != 1 or not restarts:
            return  # a jump alone may be a gap in a replay
        if jumps:
            message, cause = "the clock of a stream goes back and forth", "two publishers use this stream_name"
        else:
            message = "the clock of a stream restarted"
            cause = (
                "the camera, its publisher or its film began again; if it goes on, two publishers use this stream_name"
            )
        if self._budget.spend(self._clock()):
            logger.warning(message, extra={"stream_name": stream.name, "likely_cause": cause})
