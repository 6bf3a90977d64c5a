"""How many entries a worker reads at once, so that workers share a burst that they keep up with. Pure.

A worker that read all would hold frames that wait for it while the others are idle. But a read, and a question to the sidecar,
cost about as much for one entry as for many, and most entries of a fast camera with a low limit are denied. So the number of
entries follows from how many frames are wanted and from the share that was admitted lately.

Under overload there is nothing to leave to others: each worker reads all that it may, because it can be fair only to streams
of which it knows frames.
"""

from __future__ import annotations

import math
from typing import Final

CALM_S: Final = 10.0
"""For how long after a sign of overload all is read."""

_REMEMBERED = 0.9
"""The weight of what was decided before, at each reading: about ten readings count."""


class ReadSize:
    """The number of entries. Not thread-safe."""

    def __init__(self, most: int) -> None:
        """Takes the most entries of a read."""
        self._most = most
        self._decided = self._admitted = 1.0
        """At first every entry may be admitted."""
        self._calm_at = -math.inf

    def note(self, decided: int, admitted: int) -> None:
        """Notes how many entries a read brought, at least one, and how many of them were admitted."""
        self._decided = self._decided * _REMEMBERED + decided
        self._admitted = self._admitted * _REMEMBERED + admitted

    def note_overload(self, now: float) -> None:
        """Notes that frames wait in the queue for long although enough wait here."""
        self._calm_at = now + CALM_S

    def entries(self, wanted: int, now: float) -> int:
        """Returns how many entries have about as many admitted frames as are wanted; the most under overload."""
        if now < self._calm_at:
            return self._most
        return min(self._most, round(wanted / max(self._admitted / self._decided, 1.0 / self._most)))
