import pytest

from console.control.changes import Snapshot
from console.web.feed.limits_view import LimitsView

NOW = 1_700_000_000.0


def _view(**hashes: dict[str, str]) -> LimitsView:
    view = LimitsView()
    view.take(Snapshot(**hashes))
    return view


def test_only_a_reading_that_differs_is_new():
    view = _view(limits={"a": "2"})
    assert not view.take(Snapshot({"a": "2"}))
    assert view.take(Snapshot({"a": "3"}))
    assert view.snapshot == Snapshot({"a": "3"})
    assert view.version == 2
    assert view.section() == {"version": 2, "limits": 1, "patterns": 0, "boosts": 0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", (2.0, "override", "")),
        ("bad", (1.0, "wildcard", "two")),
        ("floor1-x", (0.5, "pattern", "")),
        ("boosted", (9.0, "boost", "")),
        ("other", (1.0, "wildcard", "")),
    ],
)
def test_the_limit_that_redis_alone_tells(name: str, expected: tuple[float, str, str]):
    view = _view(
        limits={"a": "2", "bad": "two", "*": "1", "boosted": "2"},
        patterns={"floor1-*": "0.5"},
        boosts={"boosted": f"9 {NOW + 60}"},
    )
    assert view.expected(name, NOW) == expected


def test_without_any_limit_it_is_the_sidecars_default():
    assert _view(limits={}).expected("a", NOW) == (None, "default", "")


def test_what_a_row_says():
    view = _view(limits={"a": "x" * 100}, boosts={"a": f"9 {NOW}", "b": "never"})
    assert view.of_row("a") == {"field": "x" * 64, "boost_until": NOW}
    assert view.of_row("b") == {"field": None, "boost_until": None}
    assert view.names == ["a"]
