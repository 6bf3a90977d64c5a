"""Which losses of the sidecar are logged: one that answers too late under load is lost and found several times a second."""

import math
from typing import Final

LOG_INTERVAL_S: Final = 10.0
"""Between two losses that are logged."""


class LossLog:
    """Losses and returns, at times by a monotonic clock. Not thread-safe."""

    def __init__(self) -> None:
        self._log_at = -math.inf
        self._losses = 0
        """Those since the last one that was logged."""
        self._is_logged = False
        """Whether the present loss, or the last one, was."""

    def lost(self, now: float) -> int:
        """Takes note of a loss; returns the same as :meth:`due`."""
        self._losses += 1
        self._is_logged = False
        return self.due(now)

    def due(self, now: float) -> int:
        """Returns how many losses to log, with the present one; 0: it is logged, or its turn comes later if it lasts."""
        if self._is_logged or now < self._log_at:
            return 0
        losses, self._losses = self._losses, 0
        self._is_logged, self._log_at = True, now + LOG_INTERVAL_S
        return losses

    def found(self) -> bool:
        """Returns whether the return is to be logged: only that from a loss that was."""
        return self._is_logged
