"""What commands would change."""

import pytest

from console.control.changes import Change, Kind, Snapshot
from console.control.plan import (
    FpsError,
    Plan,
    boost,
    end_boosts,
    ended_boosts,
    fps_of,
    pattern_fault,
    pause,
    reset,
    resume,
    set_limits,
    set_pattern,
)

NOW = 1000.0
LIMIT, PATTERN, BOOST = Kind

STATE = Snapshot(
    limits={"own": "2", "paused": "0", "boosted": "2", "bad": "two", "*": "1"},
    patterns={"still-*": "0", "floor-*": "3"},
    boosts={"boosted": "9 2000.000", "ended": "9 999"},
)


def check(plan: Plan, changes: list[Change], said: str = "") -> None:
    """Compares the changes, and looks for a part of what is said."""
    assert list(plan.changes) == changes
    sentences = [*plan.notes, *plan.refusals]
    assert (said in " ".join(sentences)) if said else sentences == []


@pytest.mark.parametrize(
    ("name", "fps", "end", "changes", "said"),
    [
        ("new", 0.25, False, [Change(LIMIT, "new", "", "0.25")], ""),
        ("own", 4.0, False, [Change(LIMIT, "own", "2", "4")], ""),
        ("own", 2.0, False, [], ""),
        ("bad", 2.0, False, [Change(LIMIT, "bad", "two", "2")], ""),
        ("*", 2.0, False, [Change(LIMIT, "*", "1", "2")], ""),
        ("boosted", 4.0, False, [Change(LIMIT, "boosted", "2", "4")], "--end-boost"),
        ("boosted", 0.0, False, [Change(LIMIT, "boosted", "2", "0")], ""),
        (
            "boosted",
            4.0,
            True,
            [Change(LIMIT, "boosted", "2", "4"), Change(BOOST, "boosted", "9 2000.000", "")],
            "",
        ),
        ("ended", 4.0, True, [Change(LIMIT, "ended", "", "4")], ""),
        (" cam", 4.0, False, [], "blanks"),
        ("cam\x1b[2J", 4.0, False, [], "control characters"),
    ],
)
def test_set(name: str, fps: float, end: bool, changes: list[Change], said: str) -> None:
    """A boost stays unless it is to end, and the plan says so."""
    check(set_limits([name], fps, STATE, NOW, end_boost=end), changes, said)


@pytest.mark.parametrize(
    ("pattern", "fps", "changes", "said"),
    [
        ("cam-*", 2.0, [Change(PATTERN, "cam-*", "", "2")], ""),
        ("floor-*", None, [Change(PATTERN, "floor-*", "3", "")], ""),
        ("none-*", None, [], ""),
        ("cam", 2.0, [], "no *"),
        ("*", 2.0, [], "field"),
        ("a*\n", 2.0, [], "a pattern must not contain control characters"),
    ],
)
def test_set_pattern(pattern: str, fps: float | None, changes: list[Change], said: str) -> None:
    """What isn't a pattern is refused."""
    check(set_pattern(pattern, fps, STATE), changes, said)


def test_what_may_be_a_pattern() -> None:
    """A text with * or ?."""
    assert [pattern_fault(text) is None for text in ("a*", "a?", "a[b]", "*")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("own", [Change(LIMIT, "own", "2", "0")], ""),
        ("new", [Change(LIMIT, "new", "", "0")], ""),
        ("paused", [], "paused already"),
        ("", [], "empty"),
    ],
)
def test_pause(name: str, changes: list[Change], said: str) -> None:
    """A pause is a limit of 0."""
    check(pause([name], STATE), changes, said)


@pytest.mark.parametrize(
    ("name", "former", "changes", "said"),
    [
        ("paused", {"paused": "5"}, [Change(LIMIT, "paused", "0", "5")], ""),
        ("paused", {"paused": ""}, [Change(LIMIT, "paused", "0", "")], ""),
        ("paused", {}, [Change(LIMIT, "paused", "0", "")], "isn't in the audit"),
        ("own", {}, [], "isn't paused"),
        ("still-1", {}, [], "paused by the pattern still-*"),
    ],
)
def test_resume(name: str, former: dict, changes: list[Change], said: str) -> None:
    """The former value comes back; what a pattern pauses can't be resumed alone."""
    check(resume([name], former, STATE, NOW), changes, said)


def test_resume_of_other_pauses() -> None:
    """The field * pauses all others, and a boost of 0 is removed."""
    check(resume(["cam"], {}, Snapshot({"*": "0"}), NOW), [], "the field *")
    paused = Snapshot(boosts={"cam": "0 2000"})
    check(resume(["cam"], {}, paused, NOW), [Change(BOOST, "cam", "0 2000", "")])


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("own", [Change(LIMIT, "own", "2", "")], ""),
        ("boosted", [Change(LIMIT, "boosted", "2", ""), Change(BOOST, "boosted", "9 2000.000", "")], ""),
        ("new", [], "no limit of its own"),
    ],
)
def test_reset(name: str, changes: list[Change], said: str) -> None:
    """Nothing of the stream's own stays."""
    check(reset([name], STATE), changes, said)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("own", [Change(BOOST, "own", "", "9 3600.000")], ""),
        ("boosted", [Change(BOOST, "boosted", "9 2000.000", "9 3600.000")], ""),
        ("paused", [], "resume it first"),
        ("still-1", [], "resume it first"),
        ("*", [], "can't be boosted"),
        ("a\n", [], "control characters"),
    ],
)
def test_boost(name: str, changes: list[Change], said: str) -> None:
    """A boost doesn't end a pause."""
    check(boost([name], 9.0, 3600.0, STATE), changes, said)


def test_a_boost_can_be_longer_than_a_pause_by_boost() -> None:
    """A boost of 0 is replaced by another."""
    paused = Snapshot(boosts={"cam": "0 2000"})
    check(boost(["cam"], 9.0, 3600.0, paused), [Change(BOOST, "cam", "0 2000", "9 3600.000")])


def test_a_boost_without_an_end_that_is_valid() -> None:
    """It would be ignored."""
    check(boost(["own"], 9.0, 2e11, STATE), [], "before the year 5138")


def test_boosts_end() -> None:
    """At once, or by the next change after their end."""
    check(end_boosts(["boosted"], STATE), [Change(BOOST, "boosted", "9 2000.000", "")])
    check(end_boosts(["own"], STATE), [], "isn't boosted")
    assert ended_boosts(STATE, NOW) == (Change(BOOST, "ended", "9 999", ""),)


def test_fps_of() -> None:
    """What a person wrote is an fps, or the error says what one is."""
    assert fps_of("0.25") == 0.25
    with pytest.raises(FpsError, match="fast isn't a valid fps"):
        fps_of("fast")
