"""How many frames per second a source delivers, before any is left out. Pure."""

from __future__ import annotations

import collections
from typing import Final

NEWEST: Final = 64
"""The frames from which the rate is measured: two seconds of most cameras."""

SILENCE_S: Final = 5.0
"""A source that delivers nothing for longer, and for longer than three of its frames take, delivers nothing at present."""

SAME: Final = 0.02
"""Rates that differ by less are the same, so that jitter isn't news."""


RESTART_S: Final = 2.0
"""A frame that is older by more means that the clock restarted; by less, it is stored in another order than it is shown."""


_REORDERED: Final = 4
"""So many frames at either end may lack some that are between them but are stored before or after them."""


class SourceRate:
    """The rate by the frames' own clock, so that a film has its own rate however fast it is read.

    One thread may call ``see`` and another one ``fps``.
    """

    def __init__(self) -> None:
        self._tss: collections.deque[float] = collections.deque(maxlen=NEWEST)
        self._seen_at = 0.0
        self._told = 0.0

    def see(self, ts: float, now: float) -> None:
        """Notes that the source had a frame.

        Args:
            ts: its capture time, seconds by its own clock.
            now: real time, seconds by a monotonic clock.
        """
        if self._tss and ts < self._tss[-1] - RESTART_S:
            self._tss.clear()
        self._tss.append(ts)
        self._seen_at = now

    def fps(self, now: float) -> float:
        """Returns the rate, frames per second with three digits; 0 while it isn't known, and while nothing comes.

        It stays the same as long as it changes by less than 2 %.
        """
        tss = sorted(self._tss.copy())
        if len(tss) > 4 * _REORDERED:
            tss = tss[_REORDERED:-_REORDERED]
        span = tss[-1] - tss[0] if tss else 0.0
        if len(tss) < 2 or span < 1e-6 * len(tss):
            return self._tell(0.0)
        period = span / (len(tss) - 1)
        if now - self._seen_at > max(SILENCE_S, 3 * period):
            return self._tell(0.0)
        return self._tell(float(f"{1 / period:.3g}"))

    def _tell(self, fps: float) -> float:
        if fps == 0.0 or abs(fps - self._told) > SAME * self._told:
            self._told = fps
        return self._told
