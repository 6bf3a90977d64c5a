"""What a value in the hash stands for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.limits.values import FpsSource, fallback, parse_fps, show

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
