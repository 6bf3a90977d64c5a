"""Capture times of live sources: when their frames arrive. Pure but for the clock that it is given."""

from __future__ import annotations

import math
from collections.abc import Callable

_SAME_TIME_S = 1e-4
"""Seconds between the capture times of frames that come out of the decoder together."""

_CLOCK_SET_S = 2.0
"""Seconds by which this machine's clock must be set back for capture times to follow it, as the sidecar sees it too."""


class ArrivalTimes:
    """The capture time of a frame is the time of arrival of the packet that completed it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Takes a clock that returns Unix seconds."""
        self._clock = clock
        self._now = 0.0
        self._last = -math.inf

    def arrives(self, position: float) -> float:  # noqa: ARG002
        """Notes the time; returns it."""
        self._now = self._clock()
        return self._now

    def left_out(self, position: float) -> float:  # noqa: ARG002
        """Returns the time of the last packet."""
        return self._now

    def ts(self, position: float) -> float:  # noqa: ARG002
        """Returns the time of the last packet, or later than the frame before."""
        late = self._last - _CLOCK_SET_S < self._now <= self._last
        self._last = self._last + _SAME_TIME_S if late else self._now
        return self._last
