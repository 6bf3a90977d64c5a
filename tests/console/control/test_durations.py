"""Durations and times."""

import pytest

from console.control.durations import parse_duration, show_duration, show_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("0.5h", 1800), (" 1H ", 3600)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """In the units of people."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1h", "1x", "h", "1h 30m", "1h30", "tomorrow", "inf"])
def test_what_is_no_duration(text: str) -> None:
    """The error says what one looks like."""
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.4, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (5400, "1h30m"), (86400, "1d"), (90000, "1d1h")],
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    """In two units at most."""
    assert show_duration(seconds) == text


def test_times() -> None:
    """In UTC; a time that no calendar has stays a number."""
    assert show_time(1700000000.9) == "2023-11-14 22:13:20Z"
    assert show_time(1e20) == "1e+20"
