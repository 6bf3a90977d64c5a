"""The table in memory: which limit is in force for a stream, given the values in Redis."""

import math
import time

import pytest

from handcounter.pacing.limits import FpsSource, Limit
from sidecar.limits import field_values
from sidecar.limits.layers import LimitInForce
from sidecar.limits.table import FpsTable


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
    return FpsTable(1.0, reports, clock=time.monotonic, wall_clock=lambda: 0.0)


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
    """A stream paused by its own field stays paused, whatever the wildcard is."""
    table.store(["a"], [b"0"])
    table.store_wildcard(b"3")
    assert table.limit("a") == (0.0, FpsSource.OVERRIDE)


@pytest.mark.parametrize("raw", [b"abc", b"", b"nan", b"-1"])
def test_an_invalid_value_is_ignored_and_shown(table: FpsTable, reports: Reports, raw: bytes) -> None:
    """A value that isn't an fps leaves the fallback, is reported, and is shown for the stream until it is corrected."""
    table.store(["a"], [raw])
    assert table.limit("a") == (1.0, FpsSource.DEFAULT)
    assert table.invalid_value("a") == (raw.decode() or "''")
    assert reports == [("a", table.invalid_value("a"))]
    table.store(["a"], [b"2"])
    assert table.limit("a") == (2.0, FpsSource.OVERRIDE)
    assert table.invalid_value("a") == ""


def test_an_invalid_value_is_forgotten_when_its_field_is_deleted(table: FpsTable) -> None:
    """HDEL of an invalid value ends its report too."""
    table.store(["a"], [b"abc"])
    table.store(["a"], [None])
    assert table.invalid_value("a") == ""


@pytest.mark.parametrize("typo", [b"0,5", b"off", b"", b"1e400", b"1e-400", b"-1"])
def test_a_typing_error_doesnt_lift_a_pause(table: FpsTable, typo: bytes) -> None:
    """The last valid value of the field stays in force, flagged, watched or asleep, until the field is valid or deleted."""
    table.store(["a", "b"], [b"0", b"0"])
    table.put_to_sleep("b")
    table.store_wildcard(b"0")
    for _ in range(2):
        table.store(["a", "b"], [typo, typo])
        table.store_wildcard(typo)
        assert [table.limit(name) for name in "ab"] == [(0.0, FpsSource.OVERRIDE)] * 2
        assert table.limit("c") == (0.0, FpsSource.WILDCARD)
        assert all(table.invalid_value(name) for name in "abc")
    table.put_to_sleep("a")
    assert table.fps("a") == 0.0
    table.store(["a", "b"], [None, b"2"])
    table.store_wildcard(None)
    assert [table.limit(name) for name in "abc"] == [
        (1.0, FpsSource.DEFAULT),
        (2.0, FpsSource.OVERRIDE),
        (1.0, FpsSource.DEFAULT),
    ]
    assert not any(table.invalid_value(name) for name in "abc")


def test_each_distinct_invalid_value_is_reported_once(table: FpsTable, reports: Reports) -> None:
    """Reading the same bad value again, for the same or another stream, reports nothing new."""
    for _ in range(3):
        table.store(["a", "b", "c"], [b"abc", b"abc", b"fast"])
    table.store_wildcard(b"abc")
    assert reports == [("a", "abc"), ("c", "fast")]


def test_an_invalid_wildcard_is_shown_for_the_streams_without_an_override(table: FpsTable) -> None:
    """An invalid wildcard leaves the default, and is shown for the streams without a value of their own."""
    table.store(["a", "b"], [b"5", None])
    table.store_wildcard(b"many")
    assert table.limit("b") == (1.0, FpsSource.DEFAULT)
    assert (table.invalid_value("a"), table.invalid_value("b")) == ("", "many")


def test_a_stream_asleep_keeps_its_last_known_value(table: FpsTable) -> None:
    """A silent stream isn't watched, but its override is in force if its next frame comes while Redis is unreachable."""
    table.store(["a"], [b"0"])
    table.put_to_sleep("a")
    assert "a" not in table.watched
    assert table.limit("a") == (0.0, FpsSource.OVERRIDE)
    table.assume(["a"])
    assert table.watched["a"] == 0.0


def test_assuming_doesnt_overwrite_what_is_known(table: FpsTable) -> None:
    """A value that was read in time stays when another first frame stops waiting."""
    table.store(["a"], [b"7"])
    table.assume(["a"])
    assert table.limit("a").fps == 7.0


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
    table = FpsTable(2.0, lambda _field, _value: None, clock=time.monotonic, wall_clock=lambda: 0.0)
    table.store(["cam1"], [b"0"])
    table.put_to_sleep("cam1")
    assert table.limit("cam1").fps == 0.0
    table.store(["cam1"], [None])
    assert table.limit("cam1").fps == 2.0
    table.put_to_sleep("cam1")
    assert table.limit("cam1").fps == 2.0


Change = tuple[str, float, float]
FALLBACK = "the fallback"


class Watcher:
    """Records what the table reports to its watcher."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def limit_changed(self, stream_name: str, old_fps: float, new_fps: float) -> None:
        self.changes.append((stream_name, old_fps, new_fps))

    def fallback_changed(self, old_fps: float, new_fps: float) -> None:
        self.changes.append((FALLBACK, old_fps, new_fps))


CHANGES: list[tuple[str, bytes | None, bytes | None, bytes | None, list[Change]]] = [
    # The stream's value and the wildcard before, what is stored for the stream, and what is reported.
    ("the same value", b"5", None, b"5", []),
    ("another text of the same value", b"5", None, b"5.0", []),
    ("another value", b"5", None, b"7", [("a", 5.0, 7.0)]),
    ("pause", b"5", None, b"0", [("a", 5.0, 0.0)]),
    ("no limit", b"5", None, b"inf", [("a", 5.0, math.inf)]),
    ("a first override", None, None, b"7", [("a", 1.0, 7.0)]),
    ("a first override over a wildcard", None, b"3", b"7", [("a", 3.0, 7.0)]),
    ("a deleted override", b"5", None, None, [("a", 5.0, 1.0)]),
    ("a deleted override over a wildcard", b"5", b"3", None, [("a", 5.0, 3.0)]),
    ("an override that becomes invalid", b"5", b"3", b"many", []),
    ("a pause that becomes invalid", b"0", b"3", b"0,5", []),
    ("an override as large as the fallback", None, None, b"1", [("a", 1.0, 1.0)]),
]


@pytest.mark.parametrize(
    ("before", "wildcard", "stored", "changes"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_changes_of_a_watched_stream_are_reported(
    before: bytes | None, wildcard: bytes | None, stored: bytes | None, changes: list[Change]
) -> None:
    """Each change is reported to the watcher, and with the source to on_change, and makes another version."""
    watcher = Watcher()
    limits: list[tuple[str, float, Limit]] = []
    table = FpsTable(
        1.0,
        lambda _field, _value: None,
        watcher,
        lambda *change: limits.append(change),
        clock=time.monotonic,
        wall_clock=lambda: 0.0,
    )
    table.store_wildcard(wildcard)
    table.store(["a"], [before])
    watcher.changes.clear()
    limits.clear()
    version = table.version
    table.store(["a"], [stored])
    assert watcher.changes == changes
    assert [(name, old_fps, limit.fps) for name, old_fps, limit in limits] == changes
    assert all(limit == table.limit("a") for _, _, limit in limits)
    assert (table.version != version) == bool(changes)


def test_changes_of_the_fallback_are_reported() -> None:
    """The wildcard's changes too, however many streams they are about; a stream's first value isn't a change."""
    watcher = Watcher()
    table = FpsTable(1.0, lambda _field, _value: None, watcher, clock=time.monotonic, wall_clock=lambda: 0.0)
    table.store(["a", "b"], [b"5", None])
    assert watcher.changes == []
    for raw in (b"3", b"3", b"none", b"3", None, b"off", b"1"):
        table.store_wildcard(raw)
    assert watcher.changes == [(FALLBACK, 1.0, 3.0), (FALLBACK, 3.0, 1.0), (FALLBACK, 1.0, 1.0)]


SINCE: list[tuple[str, list[tuple[str, bytes | None]], float]] = [
    ("a first value isn't a change", [("a", b"2")], -math.inf),
    ("its own value", [("a", b"2"), ("a", b"3")], 2.0),
    ("the same limit, written otherwise", [("a", b"2"), ("a", b"2.0")], -math.inf),
    ("a value that isn't valid", [("a", b"2"), ("a", b"x")], -math.inf),
    ("its field is removed", [("a", b"2"), ("a", None)], 2.0),
    ("the wildcard", [("a", None), ("*", b"3")], 2.0),
    ("the wildcard is the default", [("a", None), ("*", b"1")], -math.inf),
    ("the wildcard, while it has its own value", [("a", b"2"), ("*", b"3")], -math.inf),
    ("its own value after the wildcard", [("a", None), ("*", b"3"), ("a", b"2")], 3.0),
    ("its own value is the wildcard's", [("a", None), ("*", b"3"), ("b", b"2"), ("a", b"3")], 2.0),
    ("the wildcard after its own value was removed", [("a", b"2"), ("a", None), ("*", b"3")], 3.0),
    ("asleep, and then as before", [("a", b"2"), ("sleep", None), ("a", b"2")], -math.inf),
    ("asleep, and then another value", [("a", b"2"), ("sleep", None), ("a", b"3")], 3.0),
    ("asleep, and then none", [("a", b"2"), ("sleep", None), ("a", None)], 3.0),
    ("asleep", [("a", b"2"), ("a", b"3"), ("sleep", None), ("*", b"5")], 2.0),
    ("forgotten", [("a", b"2"), ("a", b"3"), ("forget", None)], -math.inf),
]


@pytest.mark.parametrize(("steps", "since"), [c[1:] for c in SINCE], ids=[c[0] for c in SINCE])
def test_the_time_of_the_last_change_of_a_limit(steps: list[tuple[str, bytes | None]], since: float) -> None:
    """It is that of the field that is in force, and only if the fps changed. The steps happen at 1, 2, … seconds."""
    now = 0.0
    table = FpsTable(1.0, lambda _field, _value: None, clock=lambda: now, wall_clock=lambda: 0.0)
    for field, raw in steps:
        now += 1.0
        match field:
            case "*":
                table.store_wildcard(raw)
            case "sleep":
                table.put_to_sleep("a")
            case "forget":
                table.forget("a")
            case _:
                table.store([field], [raw])
    assert table.limit_since("a") == since


UNREAD: list[tuple[str, list[str], bool]] = [
    ("its field was read", ["*", "read"], False),
    ("it has no field", ["*", "read none"], False),
    ("it couldn't be read", ["*", "assume"], True),
    ("its field was read, but the wildcard never", ["read"], False),
    ("it has no field, and the wildcard was never read", ["read none"], True),
    ("it has no field, and the wildcard was read later", ["read none", "*", "read none"], False),
    ("it was read after all", ["*", "assume", "read none"], False),
    ("it was read, slept and couldn't be read again", ["*", "read", "sleep", "assume"], False),
    ("it had no field, slept and couldn't be read again", ["*", "read none", "sleep", "assume"], False),
    ("it was never read, slept and couldn't be read again", ["*", "assume", "sleep", "assume"], True),
    ("it was forgotten", ["*", "assume", "forget"], False),
    ("it was read and forgotten, and couldn't be read again", ["*", "read", "forget", "assume"], True),
]


@pytest.mark.parametrize(("steps", "unread"), [c[1:] for c in UNREAD], ids=[c[0] for c in UNREAD])
def test_limits_that_were_never_read_are_known(table: FpsTable, steps: list[str], unread: bool) -> None:
    """Those of watched streams for which the fallback is assumed, because nobody could read their field, or the wildcard."""
    for step in steps:
        match step:
            case "*":
                table.store_wildcard(None)
            case "read":
                table.store(["a"], [b"2"])
            case "read none":
                table.store(["a"], [None])
            case "assume":
                table.assume(["a"])
            case "sleep":
                table.put_to_sleep("a")
            case "forget":
                table.forget("a")
    assert ("a" in table.unread) is unread


def test_fps_is_the_limit_without_its_source(table: FpsTable) -> None:
    """For watched, sleeping and unknown streams alike."""
    assert table.fps("unknown") == 1.0
    table.store(["watched", "asleep", "other"], [b"5", b"7", None])
    assert table.fps("other") == 1.0
    table.put_to_sleep("asleep")
    table.put_to_sleep("other")
    for name in ("watched", "asleep", "other", "unknown"):
        assert table.fps(name) == table.limit(name).fps
    assert table.fps("asleep") == 7.0


def test_memory_of_values_is_bounded(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many distinct values there ever are, few are remembered, and each still has its meaning."""
    monkeypatch.setattr(field_values, "_CACHED_VALUES", 10)
    monkeypatch.setattr(field_values, "_REPORTED_VALUES", 10)
    table = FpsTable(1.0, reports, clock=time.monotonic, wall_clock=lambda: 0.0)
    for number in range(35):
        table.store(["a", "b"], [f"{number}".encode(), f"x{number}".encode()])
        assert table.fps("a") == number
        assert len(table._values.meanings) <= 10
        assert len(table._values._reported) <= 10
    assert len(reports) == 35


@pytest.mark.parametrize(
    "limit", [Limit(4.0, FpsSource.OVERRIDE), Limit(0.0, FpsSource.WILDCARD), Limit(math.inf, FpsSource.DEFAULT)]
)
@pytest.mark.parametrize("invalid", ["", "x"])
@pytest.mark.parametrize("was_read", [False, True])
def test_limits_that_another_sidecar_told(limit: Limit, invalid: str, was_read: bool) -> None:
    """They are adopted with their source, the ignored value, and whether they are assumed; told again, they change nothing."""
    differences: list[str] = []
    table = FpsTable(
        1.0, lambda _field, _value: None, on_difference=differences.append, clock=lambda: 0.0, wall_clock=lambda: 0.0
    )
    table.adopt("cam1", LimitInForce(2.0, FpsSource.OVERRIDE), "", was_read=True)
    table.adopt("cam1", LimitInForce(*limit), invalid, was_read=was_read)
    assert (table.limit("cam1"), table.invalid_value("cam1")) == (limit, invalid)
    assert ("cam1" in table.unread) is not was_read
    assert "cam1" in differences
    version = table.version
    table.adopt("cam1", LimitInForce(*limit), invalid, was_read=was_read)
    assert table.version == version
    if limit.source is not FpsSource.OVERRIDE:
        assert table.limit("other") == limit
