"""Returns the memory of large replies to the system as soon as they aren't used any more.

glibc keeps large blocks that were freed in the heap of the thread that allocated them, once a block of their size was freed
before, so that the next ones cost no page faults. For the pictures that come inside entries this would be up to as much again
as is in use: while a reply grows, it moves from one free place to the next larger one. Decoded pictures should stay in the
heap: for one of 3840x2160 the page faults would take as long as its decoding. So blocks are given back only if they were
allocated while a large reply is read. Other C libraries don't keep them.
"""

import ctypes
import threading
from collections.abc import Callable
from typing import Final

LARGE_BYTES: Final = 2**20
"""A reply is large once the connection holds so much of it that isn't parsed."""

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""glibc's parameters of mallopt(3)."""

_KEPT_BYTES: Final = 32 * 2**20
"""Up to which blocks stay in the heap otherwise: the most to which glibc raises this bound itself."""


class LargeReplies:
    """How many large replies are being read, by all connections and threads of a process."""

    def __init__(self, mallopt: Callable[[int, int], object] | None) -> None:
        """Takes glibc's function; None: this is another C library."""
        self._mallopt = mallopt
        self._lock = threading.Lock()
        self._reading = 0

    def begin(self) -> None:
        """Has large blocks allocated apart from the heap from now on."""
        if self._mallopt:
            with self._lock:
                self._reading += 1
                if self._reading == 1:
                    self._mallopt(_MMAP_THRESHOLD, LARGE_BYTES)

    def end(self) -> None:
        """Has them allocated in the heap again, unless another large reply is being read."""
        if self._mallopt:
            with self._lock:
                self._reading -= 1
                if self._reading == 0:
                    self._mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
                    self._mallopt(_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def _of_this_process() -> LargeReplies:
    try:
        return LargeReplies(ctypes.CDLL(None).mallopt)
    except (OSError, AttributeError):
        return LargeReplies(None)


large_replies: Final = _of_this_process()
