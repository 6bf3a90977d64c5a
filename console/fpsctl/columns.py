"""Tables as lines of text, for terminals of any width and for pipes. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from console.control.names import shown

_LEAST = 8
"""A flexible column doesn't become narrower."""


class Column(NamedTuple):
    """A column of a table."""

    title: str
    right: bool = False
    """Whether its cells end at the right, as numbers do."""
    flexible: bool = False
    """Whether it becomes narrower if the table is too wide; at most one column is."""


def lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Returns the lines of a table, the titles first.

    Args:
        columns: the columns.
        rows: the cells. What terminals would interpret in them is escaped.
        width: of the terminal, in cells; None: as wide as the content.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max([cell_len(column.title), *(cell_len(row[at]) for row in cells)]) for at, column in enumerate(columns)]
    if width is not None:
        excess = sum(widths) + 2 * (len(widths) - 1) - width
        flexible = next((at for at, column in enumerate(columns) if column.flexible), None)
        if excess > 0 and flexible is not None:
            widths[flexible] = max(_LEAST, widths[flexible] - excess)
    made = [_line([column.title for column in columns], columns, widths)]
    made += [_line(row, columns, widths) for row in cells]
    return [line if width is None else _fitted(line, width) for line in made]


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    padded = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        text = _fitted(cell, width)
        blanks = " " * (width - cell_len(text))
        padded.append(blanks + text if column.right else text + blanks)
    return "  ".join(padded).rstrip()


def _fitted(text: str, width: int) -> str:
    """Returns a text of at most a width, with an ellipsis if it was cut; wide characters take two cells."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
