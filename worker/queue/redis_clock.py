"""The time of Redis' clock, between the replies that tell it."""

import time

_STEP_S = 1.0
"""A larger difference to Redis' clock, as of the reply before, means that somebody has set it; a smaller one is a delay."""


class RedisClock:
    """Follows Redis' clock; the machine's own until the first reply."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Returns Unix seconds by Redis' clock, as of the last reply."""
        return time.monotonic() + self._offset

    def set(self, seconds: bytes, micros: bytes) -> float:
        """Notes the time in a reply, as TIME returns it; returns by how many seconds somebody has set the clock, or else 0."""
        offset = int(seconds) + int(micros) / 1e6 - time.monotonic()
        step, self._offset = offset - self._offset, offset
        return step if abs(step) > _STEP_S else 0.0
