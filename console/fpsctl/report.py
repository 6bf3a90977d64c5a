"""What fpsctl prints: lines and tables for people, JSON for programs, questions, and errors with their exit codes."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from console.control.names import shown
from console.fpsctl import columns
from process.output import Output

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
FOUND: Final = 3
"""A check found something: a difference, or what may be wrong."""
INTERRUPTED: Final = 130


class FpsctlError(Exception):
    """A command failed; the message is a sentence for people.

    Args:
        message: what happened, and what to do about it. Names of streams in it are shown, not raw.
        code: the exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class Report:
    """Standard output and standard error of a command."""

    def __init__(self) -> None:
        self.output = Output(sys.stdout)
        self._errors = Output(sys.stderr)

    def line(self, text: str = "") -> None:
        """Prints a line of ours; names in it must have been escaped."""
        self.output.line(text)

    def text(self, text: str) -> None:
        """Prints a text as it is: a document."""
        self.output.write(text)
        self.output.flush()

    def note(self, text: str) -> None:
        """Prints a remark on standard error, so that it isn't taken for a result."""
        self._errors.line(f"fpsctl: {text}")

    def table(self, head: Sequence[columns.Column], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table, as wide as the terminal or, into a pipe, as its content."""
        width = shutil.get_terminal_size().columns if self.output.isatty() else None
        for line in columns.lines(head, rows, width):
            self.output.line(line)

    def json(self, value: dict[str, Any]) -> None:
        """Prints an object as one line of JSON in ASCII, in which an infinite number is the text "inf"."""
        self.output.line(json.dumps(_plain({"version": 1, **value}), allow_nan=False))

    def confirmed(self, question: str) -> bool:
        """Asks on the terminal; returns whether the answer is yes. Raises FpsctlError if there is no terminal."""
        if not sys.stdin or not sys.stdin.isatty():
            raise FpsctlError("nothing was changed: without a terminal to ask on, this needs --yes", WRONG_USAGE)
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @property
    def asks(self) -> bool:
        """Whether there is a terminal to ask on."""
        return bool(sys.stdin) and sys.stdin.isatty()


def listed(names: Iterable[str], most: int = 5) -> str:
    """Returns names for the middle of a sentence, the first few of many."""
    all_names = list(names)
    text = ", ".join(shown(name) for name in all_names[:most])
    return text + (f" and {len(all_names) - most} more" if len(all_names) > most else "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return "inf" if math.isinf(value) else value
    return value
