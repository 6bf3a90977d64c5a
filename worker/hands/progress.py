"""Shows how far the models' download is: a bar on a terminal, lines elsewhere and with NO_COLOR."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from worker.hands.models import Progress

_TITLE = "fetching the hand models"
_LINE_EVERY = 0.25
"""Share of the download after which a log gets another line."""


@contextlib.contextmanager
def download_progress(stream: TextIO) -> Iterator[Progress]:
    """Give a function that shows the progress it is told on `stream`; it shows nothing before its first call."""
    console = Console(file=stream)
    if not console.is_terminal or os.environ.get("NO_COLOR"):
        yield _Lines(stream)
        return
    with Bar(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console
    ) as bar:
        task = bar.add_task(_TITLE, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


class _Lines:
    """Writes a line at the start, at each quarter, and at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        share = done / total
        if share >= self._next:
            self._stream.write(f"{_TITLE}: {done / 1e6:.1f} of {total / 1e6:.1f} MB\n")
            self._stream.flush()
            self._next = (share // _LINE_EVERY + 1) * _LINE_EVERY
