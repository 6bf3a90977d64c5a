"""What an fps value in Redis means, and which of several is in force."""

import enum
import math
import re
from typing import NamedTuple

WILDCARD_FIELD = "*"
"""The field of the hash that is the live default for all streams without a field of their own."""

_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITY = re.compile(rb"\+?inf(?:inity)?", re.IGNORECASE)
_SHOWN_CHARACTERS = 64


class FpsSource(enum.IntEnum):
    """Where a limit came from; the numbers are those of the contract."""

    OVERRIDE = 1
    WILDCARD = 2
    DEFAULT = 3


class Limit(NamedTuple):
    """A limit and where it came from."""

    fps: float
    """Frames per second; 0 pauses, infinity lifts. Never negative, never NaN."""
    source: FpsSource


def parse_fps(raw: bytes) -> float | None:
    """Reads a value of the hash; None if it is no valid fps and so counts as absent.

    Valid are decimal numbers in ASCII and inf, with whitespace around. float() alone would also take 1_000, nan, other
    scripts' digits and 1e400 (as infinity, which would lift the limit by a slip of the keyboard).
    """
    text = raw.strip()
    if _INFINITY.fullmatch(text):
        return math.inf
    if not _DECIMAL.fullmatch(text):
        return None
    fps = float(text)
    if fps < 0.0 or math.isinf(fps):
        return None
    return abs(fps)  # -0 is 0


def show(raw: bytes) -> str:
    """A value that was refused, for people: never empty, at most 64 characters and an ellipsis."""
    text = raw.decode(errors="backslashreplace")
    if not text.strip():
        return repr(text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def fallback(wildcard: float | None, default: float) -> Limit:
    """The limit of a stream without a valid field of its own: the wildcard if there is one, else the default."""
    if wildcard is not None:
        return Limit(wildcard, FpsSource.WILDCARD)
    return Limit(default, FpsSource.DEFAULT)
