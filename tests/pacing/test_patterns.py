"""Which names a pattern matches, and which of several patterns counts."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handcounter.pacing.patterns import Match, Patterns, is_pattern, literals, matches, pattern_error

MATCHING = [
    ("floor1-*", "floor1-door"),
    ("floor1-*", "floor1-"),
    ("floor?-*", "floor2-yard"),
    ("*", "anything at all"),
    ("?", "a"),
    ("???", "cam"),
    ("cam1", "cam1"),
    ("*-door", "floor1-door"),
    ("*-door", "-door-door"),
    ("a*b*c", "abc"),
    ("a*b*c", "a-b-b-c-c"),
    ("a**b", "ab"),
    ("a*?b", "axb"),
    ("*a?c*", "zzabczz"),
    ("*a?c", "aacabc"),
    ("*a*a", "aa"),
    ("cam[1]", "cam[1]"),
    ("cam.1", "cam.1"),
    ("cam\\*", "cam\\1"),
    ("é?", "éß"),
    ("?-x", "*-x"),
    ("a*", "a\u00a0b"),
]
"""Patterns and names that they match."""

DIFFERENT = [
    ("floor1-*", "floor1"),
    ("floor1-*", "floor11-door"),
    ("floor1-*", "the floor1-door"),
    ("floor1-*", "Floor1-door"),
    ("?", ""),
    ("?", "ab"),
    ("???", "cam1"),
    ("cam1", "cam10"),
    ("cam1", "CAM1"),
    ("*-door", "floor1-doors"),
    ("a*b*c", "acb"),
    ("a*?b", "ab"),
    ("*a*a", "a"),
    ("aa*aa", "aaa"),
    ("cam[12]", "cam1"),
    ("cam.1", "camx1"),
    ("cam\\*", "cam*"),
]
"""Patterns and names that they don't match."""


@pytest.mark.parametrize(("pattern", "name"), MATCHING)
def test_a_pattern_matches(pattern: str, name: str) -> None:
    """A star stands for any characters, also none; a question mark for one; all others, brackets too, for themselves."""
    assert matches(pattern, name)


@pytest.mark.parametrize(("pattern", "name"), DIFFERENT)
def test_a_pattern_matches_all_of_a_name_or_nothing(pattern: str, name: str) -> None:
    """It doesn't match a part of a name, nor a name with other capitals."""
    assert not matches(pattern, name)


def by_recursion(pattern: str, name: str) -> bool:
    """The definition, letter by letter."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return by_recursion(pattern[1:], name) or (bool(name) and by_recursion(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and by_recursion(pattern[1:], name[1:])


TEXTS = st.text("ab*?", max_size=7)


@given(TEXTS, TEXTS)
def test_a_pattern_matches_as_it_is_defined(pattern: str, name: str) -> None:
    """Whatever the order of stars and question marks."""
    assert matches(pattern, name) is by_recursion(pattern, name)


@given(st.lists(TEXTS, max_size=6, unique=True), TEXTS)
def test_the_longest_pattern_that_matches_counts(patterns: list[str], name: str) -> None:
    """Of all that match the one with the most letters of its own, and of those the first in text order."""
    fps = {pattern: float(number) for number, pattern in enumerate(patterns)}
    best = min((p for p in patterns if matches(p, name)), key=lambda p: (-literals(p), p), default=None)
    assert Patterns(fps).match(name) == (None if best is None else Match(best, fps[best]))


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (["*", "floor*", "floor1-*"], "floor1-door", "floor1-*"),
        (["*", "floor*", "floor1-*"], "floor2-door", "floor*"),
        (["*", "floor*", "floor1-*"], "yard", "*"),
        (["floor1-*", "*-door"], "floor1-door", "floor1-*"),
        (["floor1-*", "*1-door"], "floor1-door", "floor1-*"),
        (["floor1-*", "*r1-door"], "floor1-door", "*r1-door"),
        (["cam-*b", "cam-a*"], "cam-ab", "cam-*b"),
        (["cam??", "cam*"], "cam12", "cam*"),
        (["cam1", "cam*"], "cam1", "cam1"),
        ([], "cam1", None),
        (["floor*"], "flo", None),
        (["Floor*"], "floor1", None),
    ],
)
def test_which_pattern_counts(patterns: list[str], name: str, expected: str | None) -> None:
    """The table of cases: more letters first, then text order."""
    match = Patterns(dict.fromkeys(patterns, 2.0)).match(name)
    assert match == (None if expected is None else (expected, 2.0))


def test_the_length_of_a_pattern_is_what_it_says_itself() -> None:
    """Stars and question marks don't count."""
    assert [literals(pattern) for pattern in ("", "*", "a?c", "floor1-*")] == [0, 0, 2, 7]
    assert [is_pattern(text) for text in ("cam1", "*", "a?", "a*b")] == [False, True, True, True]


def test_many_stars_take_no_time() -> None:
    """A pattern can't be made so that a name takes the sidecar's time: this one would take longer than the universe has."""
    started = time.process_time()
    assert not matches("*a" * 127 + "*b", "a" * 256)
    assert time.process_time() - started < 5.0


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("floor1-*", None),
        ("a" * 256, None),
        ("", "a pattern must not be empty"),
        ("a" * 256 + "*", "a pattern must have at most 256 characters, got 257"),
        ("floor\n*", "a pattern must not contain control characters"),
        ("floor* ", "a pattern must not begin or end with blanks"),
    ],
)
def test_a_pattern_that_can_match_no_name_is_an_error(pattern: str, error: str | None) -> None:
    """The same rules as for the names of streams."""
    found = pattern_error(pattern)
    assert found == error if error is None else found is not None and re.match(re.escape(error), found)


def test_patterns_are_counted_and_kept() -> None:
    """With their limits."""
    patterns = Patterns({"a*": 1.0, "b*": 0.0})
    assert (len(patterns), patterns.fps) == (2, {"a*": 1.0, "b*": 0.0})
