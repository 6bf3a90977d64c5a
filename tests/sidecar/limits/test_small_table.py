"""What is in force of a small hash, what is ignored, and why."""

import pytest

from handcounter.pacing.limits import parse_fps
from handcounter.pacing.patterns import pattern_error
from sidecar.limits.small_table import SmallTable


@pytest.fixture
def table() -> SmallTable[float]:
    """Patterns, at most two of them."""
    return SmallTable(parse_fps, pattern_error, 2)


def test_fields_are_replaced_as_a_whole(table: SmallTable[float]) -> None:
    """Those that aren't in the hash any more are gone; what differs is returned."""
    assert table.store({b"a*": b"1", b"b*": b"2"}) == {"a*", "b*"}
    assert table.store({b"a*": b"1", b"b*": b"2.0"}) == set()
    assert table.store({b"b*": b"3"}) == {"a*", "b*"}
    assert table.values == {"b*": 3.0}


def test_the_last_valid_value_stays(table: SmallTable[float]) -> None:
    """Until the field is valid again or removed. One that was never valid isn't in force."""
    table.store({b"a*": b"0"})
    assert table.store({b"a*": b"off", b"b*": b"on"}) == {"a*", "b*"}
    assert (table.values, table.invalid) == ({"a*": 0.0}, {"a*": "off", "b*": "on"})
    assert table.store({b"a*": b"off", b"b*": b"on"}) == set()
    assert table.store({}) == {"a*", "b*"}
    assert (table.values, table.invalid) == ({}, {})


def test_too_many_are_refused_by_their_names(table: SmallTable[float]) -> None:
    """Those after the others in text order, whatever the order in which Redis returns them."""
    table.store({b"d": b"1", b"b": b"1", b"c": b"x", b"a": b"1"})
    assert table.values == {"a": 1.0, "b": 1.0}
    assert table.refused == {"c": "at most 2 are in force", "d": "at most 2 are in force"}
    table.store({b"d": b"1", b"b": b"1", b"c": b"x"})
    assert (table.values, table.invalid, table.refused) == ({"b": 1.0, "d": 1.0}, {"c": "x"}, {})


def test_names_that_match_no_stream_are_refused(table: SmallTable[float]) -> None:
    """With the reason; also bytes that aren't UTF-8, which can be shown all the same."""
    table.store({b"a* ": b"1", b"\xff*": b"1", b"": b"1"})
    assert table.values == {}
    assert table.refused["a* "].startswith("a pattern must not begin or end with blanks")
    assert table.refused["\\xff*"] == "a name must be UTF-8"
    assert table.refused["''"] == "a pattern must not be empty"
