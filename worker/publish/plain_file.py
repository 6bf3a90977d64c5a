"""Reads files that are read again and again: from anything else, such as a pipe, that could block for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_plain_file(path: Path, most: int) -> bytes:
    """Returns at most so many bytes of a file, without ever waiting. Raises OSError, also for what is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait for one
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a pipe, a folder or a device; a file is needed, which is read again")
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)
