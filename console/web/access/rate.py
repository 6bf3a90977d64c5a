"""Bounds how often somebody may do something: a token bucket for each key. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_KEYS: Final = 1000


class RateBound:
    """So many at once, and then so many per second."""

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float]) -> None:
        """Takes a monotonic clock in seconds."""
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str, number: int = 1) -> float:
        """Returns 0 and counts so many, or how many seconds to wait before that many are allowed again."""
        now = self._clock()
        left, at = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        number = min(number, int(self._burst))
        wait = 0.0 if left >= number else (number - left) / self._per_second
        self._left[key] = (left if wait else left - number, now)
        while len(self._left) > MOST_KEYS:
            self._left.popitem(last=False)
        return wait
