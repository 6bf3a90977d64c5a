"""The table of top, and its keys."""

import pytest
from rich.cells import cell_len

from console.control.changes import Snapshot
from console.fpsctl import top_table
from console.fpsctl.board import Board
from console.fpsctl.commands.top import View, _screen
from console.fpsctl.keyboard import keys_of
from console.fpsctl.rows import SortKey, row

NOW = 1000.0
HASH = {
    "heard_at": "999.0",
    "source_fps": "25",
    "counted_fps": "0.25",
    "hand_count": "3",
    "last_skip": "superseded",
    "skipped:late": "1",
    "skipped:superseded": "3",
}
ROWS = [
    row(name, Snapshot({name: "2", "bad": "x"}, {}, {"boosted": "9 4600"}), NOW, default=None, counted=HASH)
    for name in ("a" * 100, "boosted", "bad", "\x1b[2J[red]name")
]


def board() -> Board:
    """Some streams, without sidecars."""
    return Board(ROWS, [], 6.0, ["no sidecar answers"])


def test_the_table_fits_into_80_columns() -> None:
    """With every column, and names cut."""
    lines = top_table.table(ROWS, 80, NOW)
    assert max(map(cell_len, lines)) <= 80
    assert lines[0].split() == [
        "STREAM",
        "STATE",
        "LIMIT",
        "FROM",
        "IN/s",
        "ADM/s",
        "CNT/s",
        "HANDS",
        "AGE",
        "SKIPS",
    ]
    assert "+1h" in lines[2]
    assert "!" in lines[3]
    assert "\x1b" not in "".join(lines)


def test_a_wide_table_has_totals() -> None:
    """And a pipe gets all of it, uncut."""
    assert "superseded 75% late 25%" in top_table.table(ROWS, 160, NOW)[2]
    assert "ADMITTED" in top_table.table(ROWS, 120, NOW)[0]
    assert "a" * 100 in top_table.table(ROWS, None, NOW)[1]


@pytest.mark.parametrize("size", [(80, 24), (80, 8), (60, 24), (200, 50)])
def test_the_screen_fits(size: tuple[int, int]) -> None:
    """Neither too wide nor too high, and without control characters."""
    text = _screen(size, View(pattern=""), board(), "", NOW)
    lines = text.plain.split("\n")
    assert len(lines) <= size[1]
    assert max(map(cell_len, lines)) <= size[0]
    assert "\x1b" not in text.plain
    assert "4 streams" in lines[0]


def test_keys() -> None:
    """Sort, reverse, filter, scroll and quit."""
    view = View()
    assert view.choose(board())[0].name == "\x1b[2J[red]name"
    for key in "j":
        assert view.press(key)
    assert view.first == 1
    assert view.press("up")
    assert view.first == 0
    for key in ("c", "r", "/", "b", "a", "x", "\x7f", "\n"):
        assert view.press(key)
    assert (view.sort, view.reverse, view.pattern, view.typing) == (SortKey.COUNTED, True, "ba", False)
    assert [each.name for each in view.choose(board())] == ["bad"]
    view.press("/")
    assert "filter: _" in _screen((80, 24), view, board(), "", NOW).plain
    view.press("q")
    assert view.pattern == "q"
    view.press("\x1b")
    assert (view.pattern, view.typing) == ("", False)
    view.press("z")
    view.press("\x1b")
    assert not view.press("q")


@pytest.mark.parametrize(
    ("text", "keys"),
    [("/a", ["/", "a"]), ("\x1b[A\x1bOBj", ["up", "down", "j"]), ("\x1b", ["\x1b"]), ("\x1b[5~q", ["q"])],
)
def test_keys_of_a_terminal(text: str, keys: list[str]) -> None:
    """Several may come at once; those that a terminal sends as a sequence are one, or none."""
    assert keys_of(text) == keys


def test_a_problem_is_shown() -> None:
    """Instead of what can't be seen otherwise."""
    assert "Redis is gone" in _screen((80, 24), View(), board(), "Redis is gone", NOW).plain
    assert "no sidecar answers" in _screen((80, 24), View(), board(), "", NOW).plain
