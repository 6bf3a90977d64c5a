"""What all downloads have in common: their progress is shown, and a file gets its name only once its bytes are right."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TextIO

CHUNK_BYTES = 1 << 20

Progress = Callable[[int, int | None], None]
"""Receives the number of bytes done so far and their total, which is None while it isn't known."""

_LINE_EVERY = 0.25
"""Share of a download after which a log gets another line."""


class WrongDigestError(Exception):
    """The bytes aren't the expected ones."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"SHA-256 {found} instead of {expected}")
        self.found = found
        """SHA-256 of the bytes, hexadecimal."""


def sha256_of(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checked(
    content: IO[bytes], target: Path, sha256: str, *, part: Path, report: Callable[[], None] = lambda: None
) -> None:
    """Writes a file that appears under its name only when it is complete and right.

    Args:
        content: the bytes, read to their end.
        target: the file; one that exists is replaced.
        sha256: of the bytes, hexadecimal.
        part: where the bytes are written before they are checked, on the same file system; removed afterwards.
        report: called after each chunk.

    Raises:
        WrongDigestError: the bytes aren't the expected ones; `target` is unchanged.
        OSError: the disk is full, or the folder can't be written.
    """
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
                report()
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise WrongDigestError(digest.hexdigest(), sha256)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def download_progress(stream: TextIO, title: str) -> Iterator[Progress]:
    """Shows a download's progress: a bar on a terminal, a few lines elsewhere and with NO_COLOR.

    Nothing is shown before the first report.

    Args:
        stream: where it is shown.
        title: what is downloaded, as in "downloading the hand models".
    """
    with contextlib.ExitStack() as shown:
        show: Progress | None = None

        def report(done: int, total: int | None) -> None:
            nonlocal show
            show = show or shown.enter_context(_shown(stream, title))
            show(done, total)

        yield report


@contextlib.contextmanager
def _shown(stream: TextIO, title: str) -> Iterator[Progress]:
    # Imported for the first report: most starts download nothing, and a tenth of their time would be for this.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    console = Console(file=stream)
    if not console.is_terminal or os.environ.get("NO_COLOR"):
        yield _Lines(stream, title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(title, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


class _Lines:
    """Writes a line at the start, at each quarter and at the end; one line alone if the total isn't known."""

    def __init__(self, stream: TextIO, title: str) -> None:
        self._stream = stream
        self._title = title
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        share = done / total if total else 0.0
        if share >= self._next:
            of_total = f" of {total / 1e6:.1f}" if total else ""
            self._stream.write(f"{self._title}: {done / 1e6:.1f}{of_total} MB\n")
            self._stream.flush()
            self._next = (share // _LINE_EVERY + 1) * _LINE_EVERY
