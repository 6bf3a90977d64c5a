"""Numbers as people write them."""

import math

import pytest

from handcounter.pacing.decimals import parse_decimal

CASES: list[tuple[str, float | None]] = [
    ("0", 0.0),
    ("-0.5", -0.5),
    ("+2", 2.0),
    (".5", 0.5),
    ("30.", 30.0),
    ("1e2", 100.0),
    ("2.5E-1", 0.25),
    ("0e-400", 0.0),
    ("5e-324", 5e-324),
    ("1e308", 1e308),
    ("inf", math.inf),
    ("-Infinity", -math.inf),
    ("1e400", None),
    ("-1e400", None),
    ("1e-400", None),
    ("0." + "0" * 400 + "1", None),
    ("9" * 400, None),
    ("", None),
    (" 1", None),
    ("1,5", None),
    ("1_000", None),
    ("0x10", None),
    ("nan", None),
    ("\u0665", None),
    ("1\n", None),
]


@pytest.mark.parametrize(("text", "number"), CASES)
def test_a_text_is_the_number_that_it_shows_or_none(text: str, number: float | None) -> None:
    """Decimal numbers in ASCII and inf; none that a double can't hold."""
    assert parse_decimal(text) == number
