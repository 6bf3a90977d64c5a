"""Keeps the memory of a process with many threads small."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""glibc's parameters of mallopt(3)."""

_LARGE = 128 * 1024
"""Bytes from which a block is returned to the system at once: all pictures, hardly anything else."""

_ARENAS = 2


def use_little_memory() -> None:
    """Makes the C library return pictures to the system. To be called before threads are started.

    By default glibc gives each thread a heap of its own, and after the first large block that is freed keeps the next ones
    in it. With one thread for each camera, more than half of the memory would be such rests. Other C libraries don't.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, 8 * _LARGE)):
        mallopt(parameter, value)
