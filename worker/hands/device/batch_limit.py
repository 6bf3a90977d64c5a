"""The largest batch that is tried on the device: lowered when its memory runs out, raised again later. Pure.

Memory that another process took may come back, so the next larger size is tried after many batches. An attempt that fails costs
a batch; so after each that did, twice as many batches pass before the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

RECOVERY: Final = 1000
"""Batches after which a larger size is tried again: enough that shortages of memory stay rare."""

MOST_DOUBLINGS: Final = 6
"""How often that number is doubled, by failed attempts."""


class BatchLimit:
    """A limit that is one of some sizes. Not thread-safe."""

    def __init__(self, sizes: Sequence[int], recovery: int = RECOVERY) -> None:
        """Starts with the largest size.

        Args:
            sizes: of batches, ascending, at least one.
            recovery: batches without a shortage after which the next larger size is tried for the first time.
        """
        self._sizes = sizes
        self._recovery = recovery
        self.largest = sizes[-1]
        self._since = 0
        """Batches since the limit changed."""
        self._of_the_largest = 0
        """Of these, how many needed the limit's size."""
        self._is_attempt = False
        """Whether the limit was raised, and hasn't held for long yet."""
        self._doublings = 0

    def lower(self, size: int) -> bool:
        """Notes a batch that was too large. Returns whether there is a smaller size; if not, the limit stays."""
        smaller = [each for each in self._sizes if each < size]
        if not smaller:
            return False
        if self._is_attempt:
            self._doublings = min(self._doublings + 1, MOST_DOUBLINGS)
        self._set(min(self.largest, smaller[-1]), is_attempt=False)
        return True

    def computed(self, size: int) -> None:
        """Notes a batch for which there was memory."""
        self._since += 1
        self._of_the_largest += all(each < size for each in self._sizes if each < self.largest)
        if self._is_attempt and self._of_the_largest >= self._recovery:
            self._is_attempt, self._doublings = False, 0
        if self.largest < self._sizes[-1] and self._since >= self._recovery << self._doublings:
            self._set(next(each for each in self._sizes if each > self.largest), is_attempt=True)

    def _set(self, largest: int, *, is_attempt: bool) -> None:
        self.largest, self._is_attempt = largest, is_attempt
        self._since = self._of_the_largest = 0
