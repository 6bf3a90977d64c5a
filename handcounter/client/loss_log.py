"""Which losses of the sidecar are logged: under load one that answers too late may be lost several times a second."""

import math
from typing import Final

LOG_INTERVAL_S: Final = 10.0
"""Between two losses that are logged."""


class LossLog:
    """Losses and returns, at times by a monotonic clock. Not thread-safe."""

    def __init__(self) -> None:
        self._log_at = -math.inf
        self._losses = 0
        """Since the last one that was logged."""
        self._is_logged = False
        """Whether the present or last loss was."""

    def lost(self, now: float) -> int:
        """Notes a loss; returns the same as :meth:`due`."""
        self._losses += 1
        self._is_logged = False
        return self.due(now)

    def due(self, now: float) -> int:
        """Returns how many losses to log, the present one included; 0 if it is logged already, or isn't to be logged yet."""
        if self._is_logged or now < self._log_at:
            return 0
        losses, self._losses = self._losses, 0
        self._is_logged, self._log_at = True, now + LOG_INTERVAL_S
        return losses

    def returned(self) -> bool:
        """Returns whether to log that the sidecar is reachable again: only after a loss that was logged."""
        return self._is_logged
