"""Which limit is in force, from the texts in Redis."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.control.changes import Snapshot, raw
from console.control.rule import (
    InForce,
    Source,
    format_boost,
    format_fps,
    in_force,
    is_glob,
    matching,
    parse_boost,
    parse_fps,
)
from handcounter.pacing.limits import MAX_BOOSTS, MAX_PATTERNS, Boost, FpsSource, in_text_order
from handcounter.pacing.limits import parse_boost as parse_raw_boost
from handcounter.pacing.schedule import stream_name_error
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.limits.small_table import SmallTable

NOW = 1000.0


@pytest.mark.parametrize(
    ("limits", "patterns", "boosts", "expected"),
    [
        ({}, {}, {}, InForce(1.5, Source.DEFAULT)),
        ({"*": "2"}, {}, {}, InForce(2.0, Source.WILDCARD)),
        ({"*": "2"}, {"cam*": "3"}, {}, InForce(3.0, Source.PATTERN, "cam*")),
        ({"*": "2"}, {"cam*": "3", "cam-a*": "4"}, {}, InForce(4.0, Source.PATTERN, "cam-a*")),
        ({"*": "2"}, {"cam*": "3", "cam-a*": "bad"}, {}, InForce(3.0, Source.PATTERN, "cam*")),
        ({"cam-a1": "5"}, {"cam*": "3"}, {}, InForce(5.0, Source.OVERRIDE)),
        ({"cam-a1": "five"}, {"cam*": "3"}, {}, InForce(3.0, Source.PATTERN, "cam*", invalid="five")),
        ({"cam-a1": "five"}, {}, {}, InForce(1.5, Source.DEFAULT, invalid="five")),
        ({"cam-a1": "\udcff"}, {}, {}, InForce(1.5, Source.DEFAULT, invalid="\udcff")),
        ({"cam-a1": "5"}, {}, {"cam-a1": "9 1001"}, InForce(9.0, Source.BOOST, until=1001.0, without_boost=5.0)),
        ({}, {}, {"cam-a1": "0 1001"}, InForce(0.0, Source.BOOST, until=1001.0, without_boost=1.5)),
        ({"cam-a1": "5"}, {}, {"cam-a1": "9 1000"}, InForce(5.0, Source.OVERRIDE)),
        ({"cam-a1": "5"}, {}, {"cam-a1": "9"}, InForce(5.0, Source.OVERRIDE)),
        ({"cam-a1": "0"}, {}, {"cam-a1": "9 1001"}, InForce(0.0, Source.OVERRIDE)),
        ({"*": "0"}, {}, {"cam-a1": "9 1001"}, InForce(0.0, Source.WILDCARD)),
    ],
)
def test_in_force(limits: dict, patterns: dict, boosts: dict, expected: InForce) -> None:
    """A pause, then a boost, the own field, the longest pattern, the field * and the default."""
    assert in_force("cam-a1", Snapshot(limits, patterns, boosts), NOW, default=1.5) == expected


def test_without_a_known_default() -> None:
    """Redis doesn't know --fps."""
    assert in_force("cam", Snapshot(), NOW).fps is None
    boosted = in_force("cam", Snapshot(boosts={"cam": "9 1001"}), NOW)
    assert (boosted.fps, boosted.without_boost) == (9.0, None)


def test_the_most_patterns() -> None:
    """Patterns beyond the bound of the sidecars have no effect."""
    patterns = {f"{number:04}-*": "3" for number in range(MAX_PATTERNS + 1)}
    snapshot = Snapshot(patterns=patterns)
    assert in_force("0999-cam", snapshot, NOW).source is Source.PATTERN
    assert in_force("1000-cam", snapshot, NOW).source is Source.DEFAULT


BOOSTS = st.dictionaries(
    st.sampled_from(["a", "b", "\u00e9", "\uff5e", "\U0001f600", "\udcff", " c", "d"]),
    st.sampled_from(["9 1001", "9", "x", "0 5"]),
)


@given(BOOSTS, st.integers(0, 4))
def test_the_boosts_in_force_are_those_of_a_sidecar_that_starts(boosts: dict, most: int) -> None:
    """The first valid ones by the bytes of their names; those of invalid names and values don't count."""
    table = SmallTable(parse_raw_boost, stream_name_error, most)
    table.store({raw(name): raw(text) for name, text in boosts.items()})
    valid = Snapshot(boosts=boosts).boosts_in_force
    assert in_text_order(valid, most) == table.values


def test_the_most_boosts() -> None:
    """Boosts beyond the bound of the sidecars have no effect."""
    boosts = {f"cam{number:05}": "9 1001" for number in range(MAX_BOOSTS + 1)}
    snapshot = Snapshot(boosts=boosts)
    assert in_force("cam09999", snapshot, NOW).source is Source.BOOST
    assert in_force("cam10000", snapshot, NOW).source is Source.DEFAULT


def test_the_words_are_those_of_the_contract() -> None:
    """So that fpsctl, the console and ListStreams say the same."""
    assert {each.name.lower() for each in FpsSource} == set(Source)
    assert {name.removeprefix("FPS_SOURCE_").lower() for name in dict(pb.FpsSource.items())} == {*Source, "unspecified"}


@pytest.mark.parametrize(
    ("fps", "text"), [(0.0, "0"), (0.25, "0.25"), (2.0, "2"), (29.97, "29.97"), (math.inf, "inf"), (1e16, "1e+16")]
)
def test_fps_as_text(fps: float, text: str) -> None:
    """The text is short, and stands for the same fps."""
    assert format_fps(fps) == text
    assert parse_fps(text) == fps


@pytest.mark.parametrize("text", ["", " ", "nan", "-1", "1,5", "1e999", "٣", "0x10", "1_000"])
def test_texts_that_are_no_fps(text: str) -> None:
    """They are ignored by the sidecars too."""
    assert parse_fps(text) is None


def test_a_boost_as_text() -> None:
    """It is read as it was written, to the millisecond."""
    assert format_boost(Boost(2.0, 1700000000.1234)) == "2 1700000000.123"
    assert parse_boost("2 1700000000.123") == Boost(2.0, 1700000000.123)


@pytest.mark.parametrize(("text", "expected"), [("*", False), ("cam1", False), ("cam*", True), ("cam?", True)])
def test_is_glob(text: str, expected: bool) -> None:
    """The field * is one name."""
    assert is_glob(text) is expected


def test_matching() -> None:
    """The names come in order, each once, and the field * isn't a stream."""
    assert matching("cam*", ["cam2", "*", "cam1", "cam1", "Cam3"]) == ["cam1", "cam2"]
