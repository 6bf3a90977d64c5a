"""Returns the memory of large replies to the system as soon as they aren't used any more.

glibc keeps large blocks that were freed in the heap of the thread that allocated them, once a block of their size was freed
before, so that the next ones cost no page faults. For the pictures that come inside entries this would be up to as much again
as is in use: while a reply grows, it moves from one free place to the next larger one. Decoded pictures should stay in the
heap: a picture of 3840x2160 would take 18 ms more, as much as its decoding. So blocks are given back only if they were
allocated while a large reply is read. Other C libraries don't keep them.

hiredis keeps the buffer of a reply until the connection gets its next one, which may be long: another thread's commands may go
by other connections. So a connection frees it itself.
"""

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Final

from redis._parsers import _HiredisParser

LARGE_BYTES: Final = 2**20
"""A reply is large once the connection holds so much of it that isn't parsed."""

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""glibc's parameters of mallopt(3)."""

_KEPT_BYTES: Final = 32 * 2**20
"""Up to which blocks stay in the heap otherwise: the most to which glibc raises this bound itself."""

_EMPTY_REPLY: Final = b"+\r\n"
_ARRAY: Final = ord("*")


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


class ReplyParser(_HiredisParser):
    """A connection's parser that keeps no memory of a large reply beyond its end.

    A reply to GET, a picture under a key of its own, isn't read apart: it is as large as one picture, and goes the way of
    decoded ones.
    """

    _begins = False
    """Whether nothing has come of the reply that is being read."""
    _has_entries = False
    """Whether it is an array, as those with entries are. Commands that are sent together have replies of one kind."""
    _apart = False
    """Whether it is large, and has entries."""
    _grown = False
    """Whether the buffer may be large."""

    def read_from_socket(self, *args: Any, **options: Any) -> Any:
        """Reads what has come, or waits for it."""
        result = super().read_from_socket(*args, **options)  # type: ignore[no-untyped-call]
        if self._begins:
            self._begins = False
            self._has_entries = self._buffer[0] == _ARRAY
        if not self._apart and self._reader is not None and self._reader.len() > LARGE_BYTES:
            self._grown = True
            if self._has_entries:
                self._apart = True
                large_replies.begin()
        return result

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Returns the next reply."""
        self._begins = self._reader is not None and not self._reader.has_data()
        try:
            return super().read_response(*args, **options)
        finally:
            if self._apart:
                self._apart = False
                large_replies.end()
            if self._grown and self._reader is not None and not self._reader.has_data():
                self._grown = False
                self._free_buffer()

    def _free_buffer(self) -> None:
        """Has hiredis free its buffer, which it does when it is fed while that is empty."""
        self._reader.feed(_EMPTY_REPLY)
        self._reader.gets()
