"""Tables as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from console.fpsctl.columns import Column, lines

HEAD = (Column("NAME", flexible=True), Column("N", right=True), Column("WHAT"))


def test_a_table() -> None:
    """Numbers end at the right, and names are as wide as the longest."""
    assert lines(HEAD, [("a", "1", "x"), ("long name", "100", "")]) == [
        "NAME         N  WHAT",
        "a            1  x",
        "long name  100",
    ]


def test_a_narrow_table() -> None:
    """The flexible column becomes narrower, then lines are cut."""
    rows = [("x" * 30, "100", "what")]
    assert lines(HEAD, rows, 24)[1] == "xxxxxxxxxxxx…  100  what"
    assert lines(HEAD, rows, 12)[1] == "xxxxxxx…  1…"


def test_hostile_names() -> None:
    """Nothing that a terminal would interpret is left."""
    (_, line) = lines(HEAD, [("\x1b[2J\n[red]", "1", "\u202e")])
    assert line == "\\x1b[2J\\x0a[red]  1  \\u202e"


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=5), st.text(max_size=9))), st.integers(20, 100))
def test_no_line_is_wider_than_the_terminal(rows: list, width: int) -> None:
    """Whatever the cells contain: wide characters, too."""
    assert all(cell_len(line) <= width for line in lines(HEAD, rows, width))


@pytest.mark.parametrize("rows", [[], [("a", "b", "c")]])
def test_each_row_is_a_line(rows: list) -> None:
    """After the titles."""
    assert len(lines(HEAD, rows)) == len(rows) + 1
