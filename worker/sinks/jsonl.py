"""Results as lines of JSON: on standard output, or in a file that is rotated by its size."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from worker.queue.delivery import Counted
from worker.sinks.sink import RejectedError, SinkError

MOST_BYTES = 100 * 10**6
"""Size at which a file is rotated, unless the specification has another one."""

KEPT = 5
"""Rotated files that are kept: PATH.1 is the newest."""


class JsonlFile:
    """Appends to a file."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES, kept: int = KEPT) -> None:
        """Takes the size at which the file is rotated, and how many rotated ones are kept."""
        self._path = path
        self._most_bytes = most_bytes
        self._kept = kept
        self._file: BinaryIO | None = None

    def write(self, results: Sequence[Counted]) -> None:
        """Appends one line for each result; a batch that can't be written as a whole leaves no part of a line."""
        try:
            for result in results:
                line = result.result.encode() + b"\n"
                file = self._opened()
                if file.tell() and file.tell() + len(line) > self._most_bytes:
                    file = self._rotated()
                self._append(file, line)
        except OSError as error:
            self.close()
            raise SinkError(f"the file can't be written: {error.strerror}") from error

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()
            self._file = None

    def _append(self, file: BinaryIO, line: bytes) -> None:
        before = file.tell()
        if file.write(line) != len(line):  # unbuffered: a full disk takes a part
            file.truncate(before)
            raise OSError(28, "No space left on device")

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
        return self._file

    def _rotated(self) -> BinaryIO:
        self.close()
        for number in range(self._kept, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1) if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        if not self._kept:
            self._path.unlink()
        return self._opened()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class JsonlOutput:
    """Prints to standard output."""

    def write(self, results: Sequence[Counted]) -> None:
        """Prints one line for each result."""
        try:
            for result in results:
                sys.stdout.write(result.result + "\n")
            sys.stdout.flush()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            raise RejectedError("standard output can't be written") from error

    def close(self) -> None:
        """Does nothing: the descriptor isn't ours."""
