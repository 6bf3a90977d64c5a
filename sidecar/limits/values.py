"""What a value in the hash of limits means, and which of several limits is in force. Pure."""

import enum
from typing import NamedTuple

from process.decimals import parse_decimal

WILDCARD_FIELD = "*"
"""The field of the hash with the limit of all streams without a valid field of their own."""

_SHOWN_CHARACTERS = 64


class FpsSource(enum.IntEnum):
    """The source of a limit; the numbers are those of the contract."""

    OVERRIDE = 1
    WILDCARD = 2
    DEFAULT = 3


class Limit(NamedTuple):
    """An fps and its source."""

    fps: float
    """Frames per second; 0 pauses the stream, infinity lifts the limit. Never negative or NaN."""
    source: FpsSource


def parse_fps(raw: bytes) -> float | None:
    """Returns the fps that a value of the hash stands for, frames per second; None if it isn't valid and is to be ignored.

    Decimal numbers in ASCII and inf are valid, with or without whitespace around.
    """
    try:
        fps = parse_decimal(raw.strip().decode("ascii"))
    except UnicodeDecodeError:
        return None
    return None if fps is None or fps < 0.0 else abs(fps)  # -0 is 0


def show(raw: bytes) -> str:
    """Returns an invalid value as text for people: never empty, at most 64 characters and an ellipsis."""
    text = raw.decode(errors="backslashreplace")
    if not text.strip():
        return repr(text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def fallback(wildcard: float | None, default: float) -> Limit:
    """Returns the limit of streams without a valid field of their own: the wildcard if there is one, else the default."""
    if wildcard is not None:
        return Limit(wildcard, FpsSource.WILDCARD)
    return Limit(default, FpsSource.DEFAULT)
