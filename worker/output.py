"""Standard output that may fail: a pipe that breaks, a full disk, a closed descriptor, a locale that lacks a character."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO


class Output:
    """Writes lines until that fails once; then the rest is discarded, so that the work can go on."""

    def __init__(self, stream: TextIO | None) -> None:
        """Takes a stream; None if its descriptor was closed when the process started."""
        self.problem = "" if stream else "it is closed"
        """Why lines are lost, empty if none is."""
        self._stream = stream

    def line(self, text: str) -> None:
        """Writes a line; characters that the locale lacks are escaped."""
        if not self._stream or self.problem:
            return
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.problem = getattr(error, "strerror", None) or str(error)
            self._discard()

    def _discard(self) -> None:
        """Directs what is still buffered nowhere, else Python complains about it when the process exits."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
