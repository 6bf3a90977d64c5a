"""What the values in the hashes stand for, and which of the limits is in force."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.limits import boost_value

from handcounter.pacing.limits import (
    Boost,
    FpsSource,
    Limit,
    boosts_key,
    fallback,
    in_text_order,
    lasting_limit,
    limit_in_force,
    parse_boost,
    parse_fps,
    patterns_key,
    show,
)

VALID = [
    (b"0", 0.0),
    (b"-0", 0.0),
    (b"-0.0", 0.0),
    (b"0e5", 0.0),
    (b".0E-400", 0.0),
    (b"5e-324", 5e-324),
    (b"1", 1.0),
    (b"+2", 2.0),
    (b"0.25", 0.25),
    (b".5", 0.5),
    (b"30.", 30.0),
    (b"007", 7.0),
    (b"1e2", 100.0),
    (b"2.5E-1", 0.25),
    (b" 5", 5.0),
    (b"5\n", 5.0),
    (b"\t5 \r\n", 5.0),
    (b"1e308", 1e308),
    (b"inf", math.inf),
    (b"Inf", math.inf),
    (b"+inf", math.inf),
    (b" INFINITY ", math.inf),
]

INVALID = [
    b"",
    b" ",
    b"abc",
    b"nan",
    b"NaN",
    b"-1",
    b"-0.001",
    b"-inf",
    b"1_000",
    b"1,5",
    b"5 fps",
    b"1 2",
    b"0x10",
    b"1e",
    b"e5",
    b".",
    b"+",
    b"--1",
    b"1e400",
    b"1e-400",
    b"-1e-400",
    b"0.1e-400",
    b"0." + b"0" * 400 + b"1",
    b"9" * 400,
    "\u0665".encode(),
    "5\u00a0".encode(),
    b"\xff\xfe",
    b"5\x00",
    b"true",
]


@pytest.mark.parametrize(("raw", "fps"), VALID)
def test_decimal_numbers_and_inf_are_valid(raw: bytes, fps: float) -> None:
    """Decimal numbers in ASCII and inf are read, whitespace around them or not; minus zero is zero."""
    parsed = parse_fps(raw)
    assert parsed == fps
    assert math.copysign(1.0, parsed) == 1.0


@pytest.mark.parametrize("raw", INVALID)
def test_everything_else_is_invalid(raw: bytes) -> None:
    """A value that isn't a decimal number, or is negative, NaN or too large for a double."""
    assert parse_fps(raw) is None


@given(st.binary(max_size=12))
def test_a_parsed_value_is_one_that_float_reads_alike(raw: bytes) -> None:
    """No bytes raise an error, and an accepted value is that of float(), not negative and not NaN."""
    fps = parse_fps(raw)
    if fps is not None:
        assert fps >= 0.0
        assert fps == float(raw)


@given(st.floats(min_value=0.0, allow_nan=False))
def test_every_limit_survives_its_text(fps: float) -> None:
    """A limit that Python or Redis wrote is read back exactly."""
    assert parse_fps(repr(fps).encode()) == fps


def test_the_wildcard_comes_before_the_default() -> None:
    """Without a field of its own a stream has the wildcard's fps, else the default; a wildcard of 0 counts."""
    assert fallback(None, 1.5) == (1.5, FpsSource.DEFAULT)
    assert fallback(4.0, 1.5) == (4.0, FpsSource.WILDCARD)
    assert fallback(0.0, 1.5) == (0.0, FpsSource.WILDCARD)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [(b"abc", "abc"), (b"", "''"), (b"  ", "'  '"), (b"\xff", "\\xff"), (b"x" * 100, "x" * 64 + "…")],
)
def test_an_invalid_value_can_be_shown(raw: bytes, shown: str) -> None:
    """It is shown as short, visible text, even if it is empty or isn't UTF-8."""
    assert show(raw) == shown


OVERRIDE, WILDCARD, DEFAULT, PATTERN, BOOST = FpsSource
NOW = 1.7e9
BOOSTED = Boost(25.0, NOW + 60.0)

IN_FORCE = [
    # own, pattern, wildcard, default, boost, what is in force
    (None, None, None, 1.0, None, (1.0, DEFAULT)),
    (None, None, 2.0, 1.0, None, (2.0, WILDCARD)),
    (None, 3.0, 2.0, 1.0, None, (3.0, PATTERN)),
    (4.0, 3.0, 2.0, 1.0, None, (4.0, OVERRIDE)),
    (4.0, 3.0, 2.0, 1.0, BOOSTED, (25.0, BOOST)),
    (None, 3.0, 2.0, 1.0, BOOSTED, (25.0, BOOST)),
    (None, None, 2.0, 1.0, BOOSTED, (25.0, BOOST)),
    (None, None, None, 1.0, BOOSTED, (25.0, BOOST)),
    # a pause always wins, wherever it comes from
    (0.0, 3.0, 2.0, 1.0, BOOSTED, (0.0, OVERRIDE)),
    (None, 0.0, 2.0, 1.0, BOOSTED, (0.0, PATTERN)),
    (None, None, 0.0, 1.0, BOOSTED, (0.0, WILDCARD)),
    (None, None, None, 0.0, BOOSTED, (0.0, DEFAULT)),
    # but only if it is what would be in force
    (4.0, 0.0, 0.0, 0.0, BOOSTED, (25.0, BOOST)),
    (None, 3.0, 0.0, 0.0, BOOSTED, (25.0, BOOST)),
    (4.0, 0.0, 0.0, 0.0, None, (4.0, OVERRIDE)),
    # a boost may be lower than what it replaces, a pause for a time, or none
    (4.0, None, None, 1.0, Boost(0.5, NOW + 1.0), (0.5, BOOST)),
    (4.0, None, None, 1.0, Boost(0.0, NOW + 1.0), (0.0, BOOST)),
    (4.0, None, None, 1.0, Boost(math.inf, NOW + 1.0), (math.inf, BOOST)),
    # it ends at its time, not after it
    (4.0, None, None, 1.0, Boost(25.0, NOW), (4.0, OVERRIDE)),
    (4.0, None, None, 1.0, Boost(25.0, math.nextafter(NOW, math.inf)), (25.0, BOOST)),
    (None, 3.0, None, 1.0, Boost(25.0, 0.0), (3.0, PATTERN)),
    (math.inf, None, None, 1.0, None, (math.inf, OVERRIDE)),
]


@pytest.mark.parametrize(("own", "pattern", "wildcard", "default", "boost", "expected"), IN_FORCE)
def test_which_limit_is_in_force(
    own: float | None,
    pattern: float | None,
    wildcard: float | None,
    default: float,
    boost: Boost | None,
    expected: tuple[float, FpsSource],
) -> None:
    """A pause, else the boost, else the own field, else the pattern, else the wildcard, else the default."""
    assert limit_in_force(own, pattern, fallback(wildcard, default), boost, NOW) == expected


FPS = st.sampled_from([0.0, 0.5, 1.0, 30.0, math.inf])
PERHAPS = st.none() | FPS
BOOSTS = st.builds(Boost, FPS, st.floats(NOW - 10.0, NOW + 10.0))
TIMES = st.floats(NOW - 20.0, NOW + 20.0)


@given(PERHAPS, PERHAPS, PERHAPS, FPS, BOOSTS, TIMES)
def test_no_boost_lifts_a_pause_or_outlives_its_end(
    own: float | None, pattern: float | None, wildcard: float | None, default: float, boost: Boost, now: float
) -> None:
    """Whatever it is, a boost leaves nothing behind: after its end, and while the stream is paused, all is as without it."""
    otherwise = fallback(wildcard, default)
    limit = limit_in_force(own, pattern, otherwise, boost, now)
    lasting = lasting_limit(own, pattern, otherwise)
    assert limit_in_force(own, pattern, otherwise, None, now) == lasting
    if lasting.fps == 0.0 or now >= boost.until:
        assert limit == lasting
    else:
        assert limit == Limit(boost.fps, BOOST)


@given(PERHAPS, PERHAPS, FPS)
def test_an_own_field_hides_patterns_and_the_wildcard(
    pattern: float | None, wildcard: float | None, own: float
) -> None:
    """Also if it pauses the stream or lifts its limit."""
    assert lasting_limit(own, pattern, fallback(wildcard, 1.0)) == Limit(own, OVERRIDE)


@pytest.mark.parametrize(
    ("raw", "boost"),
    [
        (b"5 1700000000", Boost(5.0, 1.7e9)),
        (b"0.5 1700000000.25", Boost(0.5, 1700000000.25)),
        (b" inf \t 1.7e9\n", Boost(math.inf, 1.7e9)),
        (b"0 0", Boost(0.0, 0.0)),
        (b"5 1e11", Boost(5.0, 1e11)),
    ],
)
def test_a_boost_is_an_fps_and_a_time(raw: bytes, boost: Boost) -> None:
    """In Unix seconds, with any whitespace between and around."""
    assert parse_boost(raw) == boost


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"5",
        b"5 ",
        b"5 1 2",
        b"x 1.7e9",
        b"5 x",
        b"-1 1.7e9",
        b"5 -1",
        b"nan 1",
        b"5 nan",
        b"5 inf",
        b"5 1700000000000",
        b"5,1.7e9",
        b"5 2026-11-27",
        b"5 1h",
        b"\xff 1",
        "5\xa01".encode(),
    ],
)
def test_every_other_boost_is_invalid(raw: bytes) -> None:
    """Also one without an end, and one whose end is in milliseconds."""
    assert parse_boost(raw) is None


@given(st.floats(min_value=0.0, allow_nan=False), st.floats(0.0, 1e11))
def test_every_boost_survives_its_text(fps: float, until: float) -> None:
    """What one program writes another one reads exactly."""
    assert parse_boost(boost_value(Boost(fps, until)).encode()) == Boost(fps, until)


@given(st.binary(max_size=20))
def test_no_bytes_are_an_error(raw: bytes) -> None:
    """They are a boost or not, and a boost has an end."""
    boost = parse_boost(raw)
    assert boost is None or (boost.fps >= 0.0 and 0.0 <= boost.until <= 1e11)


def test_fields_beyond_the_bound_are_out_of_force_by_the_bytes_of_their_names() -> None:
    """As many as may be in force stay, whatever order they come in; a byte that isn't UTF-8 counts as itself."""
    values = {"b": 1, "\udcff": 2, "\U0001f600": 3, "a": 4}
    assert in_text_order(values, 2) == {"a": 4, "b": 1}
    assert in_text_order(values, 3) == {"a": 4, "b": 1, "\U0001f600": 3}
    assert in_text_order(values, 4) == values


def test_the_keys_follow_from_that_of_the_limits() -> None:
    """So that one flag names them all."""
    assert (patterns_key("limits"), boosts_key("limits")) == ("limits:patterns", "limits:boosts")
