"""Where there is room in a block of memory: first fit, with neighbours joined when they become free. Pure."""

from __future__ import annotations


class Rooms:
    """The free parts of a block."""

    def __init__(self, size: int) -> None:
        """Starts with a free block."""
        self.size = size
        self._free = [(0, size)]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is taken."""
        return self._free == [(0, self.size)]

    def take(self, length: int) -> int | None:
        """Returns where a part of this length, at least 1, begins that is now taken; None if there is none."""
        for place, (start, end) in enumerate(self._free):
            if end - start >= length:
                self._free[place : place + 1] = [(start + length, end)] if end - start > length else []
                return start
        return None

    def free(self, start: int, length: int) -> None:
        """Frees a part that was taken."""
        joined: list[tuple[int, int]] = []
        for part in sorted([*self._free, (start, start + length)]):
            if joined and joined[-1][1] == part[0]:
                joined[-1] = joined[-1][0], part[1]
            else:
                joined.append(part)
        self._free = joined
