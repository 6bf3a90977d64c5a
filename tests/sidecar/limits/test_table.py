"""The table in memory: which limit holds for a stream, given what Redis said."""

import pytest

from sidecar.limits.table import FpsTable
from sidecar.limits.values import FpsSource


class Reports(list[tuple[str, str]]):
    """Collects what the table reports as invalid."""

    def __call__(self, field: str, value: str) -> None:
        self.append((field, value))


@pytest.fixture
def reports() -> Reports:
    """The invalid values that were reported."""
    return Reports()


@pytest.fixture
def table(reports: Reports) -> FpsTable:
    """A table with a default of 1."""
    return FpsTable(1.0, reports)


def test_the_exact_field_comes_before_the_wildcard_and_the_default(table: FpsTable) -> None:
    """A stream has its own field's fps, else the wildcard's, else the default."""
    table.store(["a", "b"], [b"5", None])
    assert table.limit("a") == (5.0, FpsSource.OVERRIDE)
    assert table.limit("b") == (1.0, FpsSource.DEFAULT)
    table.store_wildcard(b"3")
    assert table.limit("a") == (5.0, FpsSource.OVERRIDE)
    assert table.limit("b") == (3.0, FpsSource.WILDCARD)
    assert table.limit("never seen") == (3.0, FpsSource.WILDCARD)
    table.store_wildcard(None)
    assert table.limit("b") == (1.0, FpsSource.DEFAULT)


def test_an_override_of_zero_counts(table: FpsTable) -> None:
    """A stream paused by its own field stays paused, whatever the wildcard says."""
    table.store(["a"], [b"0"])
    table.store_wildcard(b"3")
    assert table.limit("a") == (0.0, FpsSource.OVERRIDE)


@pytest.mark.parametrize("raw", [b"abc", b"", b"nan", b"-1"])
def test_an_invalid_value_counts_as_absent_and_is_told(table: FpsTable, reports: Reports, raw: bytes) -> None:
    """A value that is no fps gives the fallback, is reported, and is told for the stream until it is mended."""
    table.store(["a"], [raw])
    assert table.limit("a") == (1.0, FpsSource.DEFAULT)
    assert table.invalid_value("a") == (raw.decode() or "''")
    assert reports == [("a", table.invalid_value("a"))]
    table.store(["a"], [b"2"])
    assert table.limit("a") == (2.0, FpsSource.OVERRIDE)
    assert table.invalid_value("a") == ""


def test_an_invalid_value_is_forgotten_when_its_field_is_deleted(table: FpsTable) -> None:
    """HDEL of a bad value takes it off the list too."""
    table.store(["a"], [b"abc"])
    table.store(["a"], [None])
    assert table.invalid_value("a") == ""


def test_each_distinct_invalid_value_is_reported_once(table: FpsTable, reports: Reports) -> None:
    """Reading the same bad value again, for the same or another stream, reports nothing new."""
    for _ in range(3):
        table.store(["a", "b", "c"], [b"abc", b"abc", b"fast"])
    table.store_wildcard(b"abc")
    assert reports == [("a", "abc"), ("c", "fast")]


def test_an_invalid_wildcard_is_told_for_the_streams_it_would_hold_for(table: FpsTable) -> None:
    """A bad wildcard leaves the default and shows for the streams without a value of their own."""
    table.store(["a", "b"], [b"5", None])
    table.store_wildcard(b"many")
    assert table.limit("b") == (1.0, FpsSource.DEFAULT)
    assert (table.invalid_value("a"), table.invalid_value("b")) == ("", "many")


def test_a_stream_asleep_keeps_its_last_known_value(table: FpsTable) -> None:
    """A silent stream isn't watched, but when it speaks again while Redis is away its override still holds."""
    table.store(["a"], [b"0"])
    table.put_to_sleep("a")
    assert "a" not in table.watched
    assert table.limit("a") == (0.0, FpsSource.OVERRIDE)
    table.assume(["a"])
    assert table.watched["a"] == 0.0


def test_assuming_doesnt_overwrite_what_is_known(table: FpsTable) -> None:
    """A value that Redis told in time stays when the waiter gives up."""
    table.store(["a"], [b"7"])
    table.assume(["a"])
    assert table.limit("a").fps == 7.0


def test_clearing_drops_every_override(table: FpsTable) -> None:
    """A key of another type means no overrides, also for the wildcard and for streams asleep."""
    table.store(["a", "b", "c"], [b"5", b"0", b"abc"])
    table.store_wildcard(b"3")
    table.put_to_sleep("b")
    table.clear()
    assert [table.limit(name) for name in "abc"] == [(1.0, FpsSource.DEFAULT)] * 3
    assert [table.invalid_value(name) for name in "abc"] == [""] * 3
    assert set(table.watched) == {"a", "c"}


def test_a_forgotten_stream_leaves_nothing(table: FpsTable) -> None:
    """Forgetting a stream drops its value wherever it is."""
    table.store(["a", "b"], [b"5", b"abc"])
    table.put_to_sleep("a")
    table.forget("a")
    table.forget("b")
    assert table.names() == set()
    assert table.invalid_value("b") == ""


def test_an_override_removed_while_its_stream_slept_is_gone_when_it_wakes() -> None:
    """What was known of a sleeping stream doesn't outlive its next reading, awake or asleep again."""
    table = FpsTable(2.0, lambda _field, _value: None)
    table.store(["cam1"], [b"0"])
    table.put_to_sleep("cam1")
    assert table.limit("cam1").fps == 0.0
    table.store(["cam1"], [None])
    assert table.limit("cam1").fps == 2.0
    table.put_to_sleep("cam1")
    assert table.limit("cam1").fps == 2.0
