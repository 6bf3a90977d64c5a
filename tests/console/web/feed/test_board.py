from console.web.feed.board import KEPT_S, Board
from console.web.feed.facts import Counted, Paced

NOW = 1_700_000_000.0


def _counted(heard_at: float = NOW, **fields: object) -> Counted:
    return Counted(heard_at=heard_at, counted_at=heard_at, **fields)  # type: ignore[arg-type]


def test_only_what_changed_is_told():
    board = Board(10)
    first = board.update({"a": _counted(hands=1), "b": _counted(hands=1)}, {}, {}, [], NOW)
    assert [[number, row["name"]] for number, row in first["rows"]] == [[1, "a"], [2, "b"]]  # type: ignore[attr-defined]
    assert board.update({"a": _counted(hands=1), "b": _counted(hands=1)}, {}, {}, [], NOW) == {}
    assert board.update({"a": _counted(hands=3), "b": _counted(hands=1)}, {}, {}, [], NOW) == {
        "rows": [[1, {"hands": 3}]]
    }


def test_a_snapshot_and_later_changes_are_the_board():
    board = Board(10)
    board.section("fleet", {"n": 1})
    board.update({"a": _counted(hands=1)}, {"a": Paced(2.0, "default")}, {}, ["b"], NOW)
    snapshot = board.snapshot()
    rows = {number: dict(row) for number, row in snapshot["rows"]}  # type: ignore[attr-defined]
    assert snapshot["fleet"] == {"n": 1}
    diff = board.update({"a": _counted(hands=2)}, {"a": Paced(3.0, "override")}, {}, [], NOW + 1)
    for number, fields in diff["rows"]:  # type: ignore[attr-defined]
        rows[number] |= fields
    assert rows == dict(board.snapshot()["rows"])  # type: ignore[call-overload]


def test_a_stream_that_is_gone_stays_for_an_hour():
    board = Board(10)
    board.update({"a": _counted()}, {}, {}, [], NOW)
    diff = board.update({}, {}, {}, [], NOW + 60)
    assert diff == {"rows": [[1, {"state": "silent", "hands": None, "counted_at": 0.0}]]} or "rows" in diff
    assert board.row("a")["state"] == "silent"  # type: ignore[index]
    assert board.update({}, {}, {}, [], NOW + KEPT_S + 1)["gone"] == [1]
    assert board.row("a") is None


def test_a_field_keeps_a_row():
    board = Board(10)
    board.update({}, {}, {}, ["a"], NOW)
    board.update({}, {}, {}, ["a"], NOW + 2 * KEPT_S)
    assert board.names == ["a"]


def test_the_number_of_streams_is_bounded_and_those_that_are_shown_stay():
    board = Board(3)
    board.update({name: _counted() for name in "abc"}, {}, {}, [], NOW)
    board.update({name: _counted() for name in "abcde"}, {}, {}, [], NOW + 1)
    assert sorted(board.names) == ["a", "b", "c"]
    assert board.left_out == 2


def test_a_section_is_told_once():
    board = Board(3)
    board.section("problems", [])
    assert board.update({}, {}, {}, [], NOW) == {"problems": []}
    board.section("problems", [])
    assert board.update({}, {}, {}, [], NOW) == {}


def test_a_row_says_more_about_a_stream():
    board = Board(3, lambda name: {"picture": name != "b"})
    board.update({"a": _counted(), "b": _counted()}, {}, {}, [], NOW)
    assert [row["picture"] for row in board.rows()] == [True, False]
