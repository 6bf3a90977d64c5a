"""What a value in the hash of limits means, and which of several limits is in force. Pure."""

import enum
import math
import re
from typing import NamedTuple

WILDCARD_FIELD = "*"
"""The field of the hash with the limit of all streams without a valid field of their own."""

_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ZERO = re.compile(rb"[+-]?[0.]+(?:[eE].*)?")
_INFINITY = re.compile(rb"\+?inf(?:inity)?", re.IGNORECASE)
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

    Decimal numbers in ASCII and inf are valid, with or without whitespace around. float() alone would also accept 1_000, nan,
    digits of other scripts, 1e400 as infinity, so that a typing error would lift the limit, and 1e-400 as a pause.
    """
    text = raw.strip()
    if _INFINITY.fullmatch(text):
        return math.inf
    if not _DECIMAL.fullmatch(text):
        return None
    fps = float(text)
    if fps < 0.0 or math.isinf(fps) or (fps == 0.0 and not _ZERO.fullmatch(text)):
        return None
    return abs(fps)  # -0 is 0


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
