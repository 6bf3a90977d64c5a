"""Durations and times as people write and read them. Pure."""

import re
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def parse_duration(text: str) -> float:
    """Returns the seconds that a text stands for, such as 90s, 15m, 1h30m or 2d; a bare number is seconds.

    Raises:
        ValueError: It isn't a duration of more than 0 seconds; the message says what one looks like.
    """
    bare = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", bare):
        bare += "s"
    parts = _PART.findall(bare)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != bare or seconds <= 0.0:
        raise ValueError("expected a duration, as 90s, 15m, 1h30m or 2d")
    return seconds


def show_duration(seconds: float) -> str:
    """Returns a duration in at most two units, such as 45s, 1h30m or 2d."""
    left = max(0, round(seconds))
    for unit, below in (("d", "h"), ("h", "m"), ("m", "s")):
        size, small = int(_UNITS[unit]), int(_UNITS[below])
        if left >= size:
            rest = left % size // small
            return f"{left // size}{unit}" + (f"{rest}{below}" if rest else "")
    return f"{left}s"


def show_time(at: float) -> str:
    """Returns a time, Unix seconds, in UTC, to the second."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"
