"""The command top: all streams, live."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final

import redis
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from console.control.failures import failure_in_words
from console.control.names import shown
from console.fpsctl import top_table
from console.fpsctl.board import Board, read_board
from console.fpsctl.rows import Row, SortKey, filtered, ordered
from console.fpsctl.session import Session

LEAST_INTERVAL_S: Final = 0.5
SCANS: Final = 20
"""Steps of the search for streams between two drawings: some 20,000 keys, a few milliseconds of Redis' time."""
_AROUND: Final = 5
"""Lines of the screen that the rows don't take: the head, the titles, what is wrong, and the keys."""


@dataclass
class View:
    """What a person chose to see."""

    sort: SortKey = SortKey.NAME
    reverse: bool = False
    pattern: str = ""
    first: int = 0
    typing: bool = False
    """Whether keys are added to the filter."""
    rows: list[Row] = field(default_factory=list)

    def press(self, key: str) -> bool:
        """Changes the view as a key says; returns whether to go on."""
        if self.typing:
            if key in ("\n", "\r", "\x1b"):
                self.typing = False
                self.pattern = "" if key == "\x1b" else self.pattern
            elif key in ("\x7f", "\b"):
                self.pattern = self.pattern[:-1]
            elif key.isprintable() and len(key) == 1:
                self.pattern += key
            return True
        if key in ("q", "\x03"):
            return False
        if key == "/":
            self.typing, self.pattern, self.first = True, "", 0
        elif key == "\x1b":
            self.pattern = ""
        elif key == "r":
            self.reverse = not self.reverse
        elif key in ("j", "down"):
            self.first = min(self.first + 1, max(0, len(self.rows) - 1))
        elif key in ("k", "up"):
            self.first = max(0, self.first - 1)
        elif key in top_table.KEYS:
            self.sort, self.first = top_table.KEYS[key], 0
        return True

    def choose(self, board: Board) -> list[Row]:
        """Returns the rows to show."""
        self.rows = ordered(filtered(board.rows, self.pattern), self.sort, reverse=self.reverse)
        self.first = min(self.first, max(0, len(self.rows) - 1))
        return self.rows


def top(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(metavar="FILTER", help="a part of the names, or a state")] = "",
    sort: Annotated[SortKey, typer.Option("--sort", help="the column by which rows are sorted")] = SortKey.NAME,
    reverse: Annotated[bool, typer.Option("--reverse", help="from the last to the first")] = False,
    interval: Annotated[float, typer.Option("--interval", metavar="SECONDS", help="between two readings")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="print once and end, as without a terminal")] = False,
    json: Annotated[bool, typer.Option("--json", help="print once, as JSON")] = False,
) -> None:
    """Show all streams: source, limit, admitted and counted frames per second, hands, age and state."""
    session: Session = context.obj
    view = View(sort, reverse, pattern)
    if json:
        board = read_board(session)
        rows = [{**asdict(row), "state": row.state.value} for row in view.choose(board)]
        session.report.json({"streams": rows, "problems": board.problems})
    elif once or not (session.report.output.isatty() and sys.stdin and sys.stdin.isatty()):
        board = read_board(session)
        for line in top_table.table(view.choose(board), None, session.now()):
            session.report.line(line)
        for problem in board.problems:
            session.report.note(problem)
    else:
        _live(session, view, max(LEAST_INTERVAL_S, interval))


def _live(session: Session, view: View, interval_s: float) -> None:
    """Draws until q; reads everything once in an interval."""
    from console.fpsctl.keyboard import keyboard

    console = Console(markup=False, emoji=False, highlight=False)
    board, problem = read_board(session), ""
    with keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        due = time.monotonic() + interval_s
        going_on = True
        while going_on:
            live.update(_screen(console.size, view, board, problem, time.time()), refresh=True)
            if key := keys.pressed(max(0.0, due - time.monotonic())):
                going_on = view.press(key)
            if time.monotonic() >= due:
                try:
                    board, problem = read_board(session, SCANS), ""
                except redis.RedisError as error:
                    problem = "; ".join(filter(None, failure_in_words(error)))
                due = time.monotonic() + interval_s


def _screen(size: tuple[int, int], view: View, board: Board, problem: str, now: float) -> Text:
    """Returns the screen as a text of rich, without markup."""
    width, height = size
    rows = view.choose(board)
    visible = rows[view.first : view.first + max(1, height - _AROUND)]
    answering = sum(not each.problem for each in board.said)
    sidecars = f"{answering} of {len(board.said)} sidecars" if answering else "no sidecar"
    summary = top_table.Summary(
        len(board.rows), len(rows), sidecars, board.asked, board.admitted_fps, board.counted_fps
    )
    text = Text(no_wrap=True, overflow="crop")
    for line in top_table.head(summary, view.sort, view.pattern, width):
        text.append(line + "\n", style="bold")
    titles, *lines = top_table.table(visible, width, now)
    text.append(titles.ljust(width)[:width] + "\n", style="reverse")
    for row, line in zip(visible, lines, strict=True):
        text.append(line + "\n", style="yellow" if top_table.urgent(row) else "dim" if row.limit == 0.0 else "")
    below = problem or (board.problems[0] if board.problems else "")
    text.append(shown(below, width) + "\n", style="red")
    text.append((f"filter: {shown(view.pattern)}_" if view.typing else top_table.HELP)[:width], style="dim")
    return text
