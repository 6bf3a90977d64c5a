"""Standard output that may fail: a pipe that breaks, a full disk, a closed descriptor, a locale that lacks a character."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO


class Output:
    """Writes until that fails once; then the rest is discarded, so that the work can go on. Serves as a file for rich, too."""

    def __init__(self, stream: TextIO | None) -> None:
        """Takes a stream; None if its descriptor was closed when the process started."""
        self.problem = "" if stream else "it is closed"
        """Why text is lost, empty if none is."""
        self.unwanted = False
        """Whether text is lost because its reader has ended, as head does when it has enough."""
        self._stream = stream

    @property
    def encoding(self) -> str:
        """In which it is written."""
        return (self._stream and self._stream.encoding) or "utf-8"

    def isatty(self) -> bool:
        """Returns whether it is a terminal."""
        return bool(self._stream) and not self.problem and self._stream.isatty()  # type: ignore[union-attr]

    def line(self, text: str) -> None:
        """Writes a line."""
        self.write(text + "\n")
        self.flush()

    def write(self, text: str) -> int:
        """Writes a text; characters that the locale lacks are escaped."""
        if self._stream and not self.problem:
            try:
                self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered."""
        if self._stream and not self.problem:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def _fail(self, error: OSError | ValueError) -> None:
        """Directs what is still buffered nowhere, else Python complains about it when the process exits."""
        self.problem = getattr(error, "strerror", None) or str(error)
        self.unwanted = isinstance(error, BrokenPipeError)
        with contextlib.suppress(OSError, ValueError):
            if self._stream:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
