"""Capture times of live sources: what the camera tells, or when frames arrive. Pure but for the clock that it is given."""

from __future__ import annotations

import math
from collections.abc import Callable

TRUSTED_S = 1.0
"""Seconds by which what a camera tells may differ from the time of arrival: its latency, and two synchronised clocks. A camera
whose clock is further off isn't synchronised."""

_SAME_TIME_S = 1e-4
"""Seconds between the capture times of frames that come out of the decoder together, or whose time would go back."""

_CLOCK_SET_S = 2.0
"""Seconds by which this machine's clock must be set back for capture times to follow it, as the sidecar sees it too. Twice
what a camera may differ, so that they don't go back however that changes."""


class ArrivalTimes:
    """The capture time of a frame is what the camera tells, else the time of arrival of the packet that completed it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Takes a clock that returns Unix seconds."""
        self._clock = clock
        self._now = 0.0
        self._last = -math.inf
        self._zero: float | None = None
        """The camera's time at position 0, Unix seconds."""

    def begin(self) -> None:
        """Forgets what the camera told, because its positions begin anew."""
        self._zero = None

    def told(self, position: float, captured_at: float) -> None:
        """Takes the camera's own time at a position: Unix seconds at seconds or NaN."""
        if not math.isnan(position):
            self._zero = captured_at - position

    def arrives(self, position: float) -> float:
        """Notes the time; returns the capture time of the packet's frame."""
        self._now = self._clock()
        return self._at(position)

    def left_out(self, position: float) -> float:
        """Returns the capture time of the last packet's frame."""
        return self._at(position)

    def ts(self, position: float) -> float:
        """Returns the capture time of the frame at this position, or later than the frame before."""
        at = self._at(position)
        late = self._last - _CLOCK_SET_S < at <= self._last
        self._last = self._last + _SAME_TIME_S if late else at
        return self._last

    def _at(self, position: float) -> float:
        told = math.nan if self._zero is None else self._zero + position
        return told if abs(told - self._now) <= TRUSTED_S else self._now  # false for NaN
