"""The demo's output: a live table on a terminal, lines elsewhere, and the summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TextIO, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from process.output import Output
from worker.demo.verdict import Row

_LINE_WIDTH = 110
"""Width without a terminal: enough for the table."""


class Screen:
    """Writes to one console. Used in a `with` block, at whose end the live table disappears."""

    def __init__(self, console: Console | None = None, output: Output | None = None) -> None:
        # NO_COLOR means plain lines: a live table needs escape sequences.
        file = cast(TextIO, output or Output(sys.stdout))
        self._console = console or Console(file=file, force_terminal=False if os.environ.get("NO_COLOR") else None)
        if not self._console.is_terminal:
            self._console.width = max(self._console.width, _LINE_WIDTH)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._heading = ""

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def line(self, text: str) -> None:
        """Writes a line above the live table."""
        self._console.print(Text(text), soft_wrap=True)

    def phase(self, number: int, total: int, title: str, commands: Sequence[str]) -> None:
        """Announces a phase."""
        self._heading = f"phase {number} of {total}: {title}"
        self.line(self._heading)
        for command in commands:
            self.line(f"    redis-cli {command}")

    def progress(self, rows: Sequence[Row], left: float) -> None:
        """Updates the live table; `left` are the seconds until the end of the phase."""
        if self._live:
            self._live.update(Group(Text(f"{self._heading}, {max(0.0, left):.0f} s left"), _table(rows)), refresh=True)

    def phase_done(self, rows: Sequence[Row]) -> None:
        """Writes the outcome of a phase."""
        for row in rows:
            self.line(
                f"    {row.stream_name}: {row.achieved:.2f} of {row.configured:g} fps ({row.set_by}), "
                f"{row.skipped} of {row.published} frames skipped undecoded, "
                f"{row.counted_hands} hands counted of {row.true_hands}{'  OFF' if row.off else ''}"
            )

    def summary(self, rows: Sequence[Row], remarks: Sequence[str]) -> None:
        """Writes the table of all phases, and remarks below it."""
        self._console.print(_table(rows))
        for remark in remarks:
            self.line(remark)


_COLUMNS = (
    "#",
    "stream",
    "source\nfps",
    "configured\nfps",
    "achieved\nfps",
    "frames\nskipped\nundecoded",
    "true\nhands",
    "counted\nhands",
    "frames\nright",
)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "stream" else "right", no_wrap=True)
    for row, following in zip_longest(rows, rows[1:]):
        table.add_row(
            str(row.phase),
            row.stream_name,
            f"{row.published / row.seconds if row.seconds else 0:.1f}",
            f"{row.configured:g} ({row.set_by})",
            f"{row.achieved:.2f}",
            f"{row.skipped} of {row.published}",
            str(row.true_hands),
            str(row.counted_hands),
            f"{row.right} of {row.counted}",
            style="red" if row.off else "",
            end_section=following is not None and following.phase != row.phase,
        )
    return table
