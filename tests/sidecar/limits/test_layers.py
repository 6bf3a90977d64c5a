"""Patterns and boosts in the fps table: what is in force, and what is reported."""

import pytest
from support.models.table_world import NOW, World

from handcounter.pacing.limits import FpsSource, Limit
from sidecar.limits.layers import LimitInForce
from sidecar.limits.table import NEVER_CHANGED, FpsTable

OVERRIDE, WILDCARD, DEFAULT, PATTERN, BOOST = FpsSource


@pytest.fixture
def world() -> World:
    """A table that watches three streams; the first has a field."""
    world = World()
    world.table.store(["a1", "a2", "b1"], [b"5", None, None])
    return world


def test_a_pattern_sets_the_limit_of_streams_without_a_field(world: World) -> None:
    """Of those that it matches, and of no others; it is said which pattern it is."""
    world.set_patterns(a_="3")
    assert [world.table.limit(name) for name in ("a1", "a2", "b1")] == [(5.0, OVERRIDE), (3.0, PATTERN), (1.0, DEFAULT)]
    assert world.table.limit_in_force("a2") == LimitInForce(3.0, PATTERN, "a*")
    assert world.changes == [("a2", 1.0, 3.0)]
    assert set(world.differences) == {"a1", "a2"}
    assert (world.patterns, world.logged) == ([("a*", None, 3.0)], [])
    assert world.table.limit("a3") == (3.0, PATTERN)  # of a stream that was never seen, as far as is known
    assert world.table.fps("a3") == 3.0


def test_a_field_hides_the_pattern_and_its_removal_shows_it(world: World) -> None:
    """Both are changes of the one stream."""
    world.set_patterns(a_="3")
    world.forget_reports()
    world.table.store(["a1"], [None])
    assert world.table.limit("a1") == (3.0, PATTERN)
    world.table.store(["a1"], [b"3"])
    assert world.table.limit("a1") == (3.0, OVERRIDE)
    assert world.changes == [("a1", 5.0, 3.0)]  # the source alone changes nothing for leases
    assert world.differences == ["a1", "a1"]
    assert world.logged == [("a1", Limit(3.0, PATTERN))]


def test_a_pattern_that_goes_leaves_what_is_below(world: World) -> None:
    """A shorter pattern, then the wildcard."""
    world.table.store_wildcard(b"2")
    world.set_patterns(a_="3", _="4")
    assert world.table.limit("b1") == (4.0, PATTERN)
    world.set_patterns(_="4")
    assert world.table.limit_in_force("a2") == LimitInForce(4.0, PATTERN, "*")
    world.set_patterns()
    assert [world.table.limit(name) for name in ("a2", "b1")] == [(2.0, WILDCARD)] * 2
    assert world.patterns[-1] == ("*", 4.0, None)


def test_reading_the_same_again_changes_nothing(world: World) -> None:
    """No version, no report."""
    world.set_patterns(a_="3")
    world.set_boosts(b1="9 10")
    world.forget_reports()
    version = world.table.version
    world.set_patterns(a_="3")
    world.set_boosts(b1="9 10")
    world.table.store(["a1", "a2", "b1"], [b"5", None, None])
    assert (world.table.version, world.changes, world.differences) == (version, [], [])


def test_a_boost_ends_at_its_time(world: World) -> None:
    """It is a change like any other: of leases, watchers and the log, at the second that it names."""
    ends: list[float | None] = []
    world.table.on_boost = lambda: ends.append(world.table.next_boost_end())
    world.set_boosts(a1="9 10", b1="7 20")
    assert NOW + 10.0 in ends
    assert world.table.limit_in_force("a1") == LimitInForce(9.0, BOOST, "", NOW + 10.0, LimitInForce(5.0, OVERRIDE))
    assert world.table.next_boost_end() == NOW + 10.0
    assert world.table.layers.boosts_in_force() == 2
    world.forget_reports()
    world.now = NOW + 9.999
    world.table.end_boosts()
    assert world.changes == []
    world.now = NOW + 10.0
    world.table.end_boosts()
    assert world.changes == [("a1", 9.0, 5.0)]
    assert (world.differences, world.logged) == (["a1"], [("a1", Limit(5.0, OVERRIDE))])
    assert world.table.next_boost_end() == NOW + 20.0
    assert world.table.layers.boosts_in_force() == 1
    world.table.store(["a1"], [b"6"])  # its own field counts again
    assert world.table.limit("a1") == (6.0, OVERRIDE)


def test_a_boost_doesnt_lift_a_pause(world: World) -> None:
    """Whatever pauses the stream; and it is in force once the stream isn't paused any more."""
    world.set_boosts(a1="9 10", a2="9 10", b1="9 10")
    world.table.store(["a1"], [b"0"])
    world.set_patterns(a_="0")
    world.table.store_wildcard(b"0")
    assert [world.table.limit(name) for name in ("a1", "a2", "b1")] == [
        (0.0, OVERRIDE),
        (0.0, PATTERN),
        (0.0, WILDCARD),
    ]
    assert world.table.next_boost_end() is None
    world.table.store(["a1"], [b"5"])
    world.set_patterns()
    world.table.store_wildcard(None)
    assert [world.table.fps(name) for name in ("a1", "a2", "b1")] == [9.0] * 3


def test_a_boost_knows_what_follows_it(world: World) -> None:
    """Also while that changes, which is told."""
    world.set_boosts(b1="9 10")
    world.forget_reports()
    world.table.store_wildcard(b"4")
    assert world.table.limit_in_force("b1").after_boost == LimitInForce(4.0, WILDCARD)
    assert "b1" in world.differences
    world.set_patterns(b_="3")
    assert world.table.limit_in_force("b1").after_boost == LimitInForce(3.0, PATTERN, "b*")
    world.table.store(["b1"], [b"2"])
    assert world.table.limit_in_force("b1").after_boost == LimitInForce(2.0, OVERRIDE)
    assert [name for name, _, _ in world.changes] == ["*"]


def test_a_boost_that_is_removed_is_over(world: World) -> None:
    """As if its time had come."""
    world.set_boosts(a1="9 10")
    world.set_boosts()
    assert world.table.limit("a1") == (5.0, OVERRIDE)
    assert world.table.next_boost_end() is None


def test_a_typing_error_in_a_pattern_or_a_boost_changes_nothing(world: World) -> None:
    """The last valid value stays in force, and the streams show the one that is ignored."""
    world.set_patterns(a_="0")
    world.set_boosts(b1="9 10")
    world.forget_reports()
    world.set_patterns(a_="zero")
    world.set_boosts(b1="9")
    assert [world.table.limit(name) for name in ("a2", "b1")] == [(0.0, PATTERN), (9.0, BOOST)]
    assert [world.table.invalid_value(name) for name in ("a1", "a2", "b1")] == ["", "zero", "9"]
    assert {"a2", "b1"} <= set(world.differences)
    assert world.changes == []
    world.set_patterns(a_="0")
    world.set_boosts(b1="9 10")
    assert [world.table.invalid_value(name) for name in ("a2", "b1")] == ["", ""]


def test_a_typing_error_in_a_field_leaves_the_field_in_force(world: World) -> None:
    """Not the boost that covered it, nor the pattern below it."""
    world.set_patterns(a_="3")
    world.set_boosts(a1="9 10", a2="9 10")
    world.table.store(["a1", "a2"], [b"fast", b"fast"])
    world.set_boosts()
    assert [world.table.limit(name) for name in ("a1", "a2")] == [(5.0, OVERRIDE), (3.0, PATTERN)]


@pytest.mark.parametrize(
    ("patterns", "shown"),
    [
        ({"a_": "x", "_": "2"}, "x"),
        ({"a_": "2", "_": "x"}, ""),
        ({"_": "x"}, "x"),
        ({"b_": "x"}, ""),
        ({"a_": "2", "a2": "y"}, "y"),
    ],
)
def test_an_invalid_pattern_is_shown_if_it_would_count(world: World, patterns: dict[str, str], shown: str) -> None:
    """A pattern that was never valid hides nothing; the one that would set the limit is shown."""
    world.set_patterns(**patterns)
    assert world.table.invalid_value("a2") == shown
    world.set_boosts(a2="7 10")
    assert world.table.invalid_value("a2") == shown


def test_limits_are_unread_until_the_patterns_are_known() -> None:
    """A stream without a field may be paused by a pattern. One with a field isn't."""
    world = World()
    world.table.await_patterns()
    world.table.store(["a1", "a2"], [b"5", None])
    world.table.assume(["a3"])
    assert world.table.unread == {"a2", "a3"}
    world.set_patterns(a_="0")
    assert world.table.unread == {"a3"}
    assert "a2" in world.differences
    assert [world.table.fps(name) for name in ("a1", "a2", "a3")] == [5.0, 0.0, 0.0]


def test_patterns_that_cant_be_read_are_none() -> None:
    """Else an old ACL would leave the limit of every stream unknown."""
    world = World()
    world.table.await_patterns()
    world.table.store(["a1"], [None])
    world.table.assume_patterns()
    assert world.table.unread == set()


def test_a_stream_that_sleeps_keeps_its_own_field_alone(world: World) -> None:
    """Patterns and boosts are known without it."""
    world.set_patterns(a_="3")
    world.set_boosts(a1="9 10")
    for name in ("a1", "a2"):
        world.table.put_to_sleep(name)
    assert [world.table.limit(name) for name in ("a1", "a2")] == [(9.0, BOOST), (3.0, PATTERN)]
    world.set_patterns(a_="4")
    world.now += 10.0
    assert [world.table.fps(name) for name in ("a1", "a2")] == [5.0, 4.0]
    world.table.assume(["a1", "a2"])
    assert [world.table.limit(name) for name in ("a1", "a2")] == [(5.0, OVERRIDE), (4.0, PATTERN)]
    world.table.forget("a1")
    assert world.table.limit("a1") == (4.0, PATTERN)


def test_a_stream_that_slept_while_patterns_changed_has_a_new_limit(world: World) -> None:
    """So its achieved rate is measured anew."""
    world.table.put_to_sleep("a2")
    world.real = 7.0
    world.set_patterns(a_="3")
    assert world.table.limit_since("b1") == NEVER_CHANGED
    world.table.store(["a2"], [None])
    assert world.table.limit_since("a2") == 7.0


def test_what_another_sidecar_told_ends_at_its_time() -> None:
    """Here a boost, without a record of it: what follows was told with it. A pattern that was told outlives a sleep."""
    world = World()
    after = LimitInForce(0.0, PATTERN, "a*")
    world.table.adopt("a1", LimitInForce(9.0, BOOST, "", NOW + 10.0, after), "", was_read=True)
    world.table.adopt("a2", LimitInForce(9.0, BOOST, "", NOW + 10.0, LimitInForce(2.0, WILDCARD)), "x", was_read=True)
    assert world.table.limit_in_force("a1").boost_until == NOW + 10.0
    world.now += 10.0
    world.table.end_boosts()
    assert world.table.limit_in_force("a1") == after
    assert (world.table.limit("a2"), world.table.invalid_value("a2")) == ((2.0, WILDCARD), "x")
    world.table.put_to_sleep("a1")
    assert world.table.fps("a1") == 0.0
    world.table.adopt("a1", after, "", was_read=False)
    assert world.table.limit_in_force("a1") == after
    assert "a1" in world.table.unread


def test_a_field_that_is_told_after_a_pattern_of_the_same_fps() -> None:
    """The limit is the same, its source isn't."""
    world = World()
    world.table.adopt("a1", LimitInForce(3.0, PATTERN, "a*"), "", was_read=True)
    world.table.adopt("a1", LimitInForce(3.0, OVERRIDE), "", was_read=True)
    assert world.table.limit_in_force("a1") == LimitInForce(3.0, OVERRIDE)


def test_a_table_that_nobody_listens_to() -> None:
    """Follows all the same."""
    table = FpsTable(1.0, lambda _field, _value: None, clock=lambda: 0.0, wall_clock=lambda: NOW)
    table.store(["a1"], [None])
    assert table.store_patterns({b"a*": b"3"})
    table.refresh(["a1", "gone"])
    table.store_boosts({b"a1": b"9 2000", b"gone": b"9 2000"})
    assert table.limit("a1") == (9.0, BOOST)
