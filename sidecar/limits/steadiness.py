"""When a new connection to Redis counts as a recovery. Pure.

A server that fails again and again isn't reported as back each time.
"""

from collections import deque
from typing import Final

FREE_LOSSES: Final = 3
"""So many losses within MEMORY_S are followed by a recovery at once: a restart, a failover, a rotated password."""

MEMORY_S: Final = 30.0
LONGEST_HOLD_S: Final = 16.0


class Steadiness:
    """How long a connection must last before it counts: longer the more often the ones before it were lost."""

    def __init__(self) -> None:
        self._lost_at: deque[float] = deque()

    def record_loss(self, now: float) -> None:
        """Records that a connection that counted was lost; real time, seconds by a monotonic clock."""
        self._lost_at.append(now)

    def hold_s(self, now: float) -> float:
        """Returns how long a connection that begins now must last before it counts, seconds."""
        while self._lost_at and now - self._lost_at[0] >= MEMORY_S:
            self._lost_at.popleft()
        excess = len(self._lost_at) - FREE_LOSSES
        return min(2.0 ** (excess - 1), LONGEST_HOLD_S) if excess > 0 else 0.0
