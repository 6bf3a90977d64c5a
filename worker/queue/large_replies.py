"""Returns the memory of large replies to the system as soon as they aren't used any more.

glibc keeps large blocks that were freed in the heap of the thread that allocated them, once a block of their size was freed
before, so that the next ones cost no page faults. For the pictures that come inside entries this would be up to as much again
as is in use: while a reply grows, it moves from one free place to the next larger one. Decoded pictures should stay in the
heap: a picture of 3840x2160 would take 18 ms more, as much as its decoding. So blocks are given back only if they were
allocated while a reply is read, which begins with its first byte, and only once a large one has come. Other C libraries don't
keep them.
"""

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

LARGE_BYTES: Final = 2**20

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""glibc's parameters of mallopt(3)."""

_KEPT_BYTES: Final = 32 * 2**20
"""Up to which blocks stay in the heap otherwise: the most to which glibc raises this bound itself."""

_AS_ALWAYS: Final = contextlib.nullcontext()

_TRIM_FOR_S: Final = 10.0
_TRIM_EVERY_S: Final = 0.1


class LargeReplies:
    """Whether large replies come, for all connections and threads of a process."""

    def __init__(
        self,
        mallopt: Callable[[int, int], object] | None,
        trim: Callable[[int], object] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes glibc's functions; None: this is another C library."""
        self._mallopt = mallopt
        self._trim = trim
        self._clock = clock
        self._lock = threading.Lock()
        self.come = False
        """Whether there was a large one."""
        self._reading = 0
        self._trim_until = 0.0
        self._trim_at = 0.0

    def note(self, size: int) -> None:
        """Notes how many bytes the pictures of a reply have."""
        if size >= LARGE_BYTES and not self.come and self._mallopt and self._trim:
            self._trim_until = self._clock() + _TRIM_FOR_S
            self.come = True

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Returns the context in which a reply is read; what waits for its first byte belongs before it."""
        return self._apart() if self.come else _AS_ALWAYS

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        self._begin()
        try:
            yield
        finally:
            self._end()

    def _begin(self) -> None:
        assert self._mallopt
        assert self._trim
        with self._lock:
            self._reading += 1
            if self._reading > 1:
                return
            self._mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
            now = self._clock()
            if self._trim_at <= now < self._trim_until:  # what the first large reply left in the heap
                self._trim_at = now + _TRIM_EVERY_S
                self._trim(0)

    def _end(self) -> None:
        assert self._mallopt
        with self._lock:
            self._reading -= 1
            if self._reading == 0:
                self._mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
                self._mallopt(_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def _of_this_process() -> LargeReplies:
    try:
        library = ctypes.CDLL(None)
        return LargeReplies(library.mallopt, library.malloc_trim)
    except (OSError, AttributeError):
        return LargeReplies(None, None)


large_replies: Final = _of_this_process()
