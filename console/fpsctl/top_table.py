"""The table of top: which columns fit, and what is above and below. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from console.control.durations import show_duration
from console.control.names import shown
from console.control.states import State
from console.fpsctl import show
from console.fpsctl.columns import Column, lines
from console.fpsctl.rows import Row, SortKey

KEYS: Final = {
    "n": SortKey.NAME,
    "s": SortKey.STATE,
    "l": SortKey.LIMIT,
    "i": SortKey.SOURCE,
    "a": SortKey.ADMITTED,
    "c": SortKey.COUNTED,
    "h": SortKey.HANDS,
    "g": SortKey.AGE,
}
"""The keys that sort."""

HELP: Final = (
    "q quit  / filter  n s l i a c h g sort by name state limit in admitted counted hands age  r reverse  j k scroll"
)

_NAME = Column("STREAM", flexible=True)
_COLUMNS: Final = (
    _NAME,
    Column("STATE"),
    Column("LIMIT", right=True),
    Column("FROM"),
    Column("IN/s", right=True),
    Column("ADM/s", right=True),
    Column("CNT/s", right=True),
    Column("HANDS", right=True),
    Column("AGE", right=True),
    Column("SKIPS"),
)
_WIDE: Final = (Column("ADMITTED", right=True), Column("COUNTED", right=True), Column("SKIPPED", right=True))
WIDE_FROM: Final = 110
"""The width of a terminal from which the totals are shown, too."""
_MOST_FROM: Final = 10


class Summary(NamedTuple):
    """What is above the table."""

    streams: int
    shown: int
    sidecars: str
    asked: float
    admitted_fps: float
    counted_fps: float


def table(rows: Sequence[Row], width: int | None, now: float) -> list[str]:
    """Returns the lines of the table, the titles first; None for the width: into a pipe, with all columns."""
    wide = width is None or width >= WIDE_FROM
    columns = [*_COLUMNS[:-1], *_WIDE, _COLUMNS[-1]] if wide else list(_COLUMNS)
    return lines(columns, [_cells(row, wide, now) for row in rows], width)


def head(summary: Summary, sort: SortKey, pattern: str, width: int) -> list[str]:
    """Returns the lines above the table."""
    shown_ones = f" ({summary.shown} shown)" if summary.shown != summary.streams else ""
    first = f"fpsctl top  {summary.streams} streams{shown_ones}  {summary.sidecars}"
    second = (
        f"limits ask for {show.rate(summary.asked)}/s  admitted {show.rate(summary.admitted_fps)}/s  "
        f"counted {show.rate(summary.counted_fps)}/s  by {sort}" + (f"  /{shown(pattern)}" if pattern else "")
    )
    return [first[:width], second[:width]]


def urgent(row: Row) -> bool:
    """Returns whether a row should stand out."""
    return row.state in (State.LOST, State.SILENT, State.BEHIND) or bool(row.invalid)


def _cells(row: Row, wide: bool, now: float) -> list[str]:
    source = shown(row.pattern or row.source, _MOST_FROM)
    if row.until is not None:
        source = f"+{show_duration(row.until - now)}"
    limit = show.limit(row.limit) + ("!" if row.invalid else "")
    cells = [
        row.name,
        row.state.value,
        limit,
        source,
        show.rate(row.source_fps),
        show.rate(row.admitted_fps),
        show.rate(row.counted_fps),
        "-" if row.hands is None else str(row.hands),
        "-" if row.age is None else show_duration(row.age),
    ]
    if wide:
        cells += [str(row.admitted), str(row.counted), str(row.skipped)]
    return [*cells, row.camera if row.camera else _skips(row, wide)]


def _skips(row: Row, wide: bool) -> str:
    """Returns why frames are skipped: the last reason, or in a wide table the share of each."""
    total = sum(row.skips.values())
    if not wide or not total:
        return row.last_skip
    return " ".join(f"{reason} {number / total:.0%}" for reason, number in row.skips.items())
