"""What the limits in Redis say, and which of them is in force for a stream. Pure.

Five things can set a stream's limit. They are, with the one that wins first:

1. the stream's *boost*, a temporary limit, until it ends;
2. the stream's own field in the hash of limits;
3. the pattern that matches the stream's name best (see :mod:`handcounter.pacing.patterns`);
4. the field ``*``;
5. the default, ``--fps``.

But a pause always wins: a boost isn't in force while the limit without it is 0. So a boost never lifts a pause, and since
it lies in a hash of its own, nobody has to restore the stream's limit when it ends.

Times are Unix seconds, and always an argument.
"""

import enum
import itertools
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from handcounter.pacing.decimals import parse_decimal
from handcounter.pacing.schedule import MAX_TS

WILDCARD_FIELD: Final = "*"
"""The field of the hash with the limit of all streams without a field, a pattern or a boost of their own."""

MAX_PATTERNS: Final = 1000
"""Patterns that are in force at most; those after them in text order are refused."""

MAX_BOOSTS: Final = 10_000
"""Boosts that are in force at most; those whose stream comes after them in text order are refused."""

_SHOWN_CHARACTERS: Final = 64

Value = TypeVar("Value")


class FpsSource(enum.IntEnum):
    """The source of a limit; the numbers are those of the contract."""

    OVERRIDE = 1
    """The stream's own field."""
    WILDCARD = 2
    """The field ``*``."""
    DEFAULT = 3
    """``--fps``."""
    PATTERN = 4
    """The best matching pattern."""
    BOOST = 5
    """The stream's boost."""


class Limit(NamedTuple):
    """An fps and its source."""

    fps: float
    """Frames per second; 0 pauses the stream, infinity lifts the limit. Never negative or NaN."""
    source: FpsSource


class Boost(NamedTuple):
    """A temporary limit of one stream."""

    fps: float
    """Frames per second, as in :class:`Limit`; 0 is a pause that ends by itself."""
    until: float
    """When it ends, Unix seconds: it is in force before that."""


def patterns_key(config_key: str) -> str:
    """Returns the key of the hash that maps patterns to fps, given the key of the hash of limits."""
    return f"{config_key}:patterns"


def boosts_key(config_key: str) -> str:
    """Returns the key of the hash that maps streams to their boosts, given the key of the hash of limits."""
    return f"{config_key}:boosts"


def parse_fps(raw: bytes) -> float | None:
    """Returns the fps that a value of the hash stands for, frames per second; None if it isn't valid and is to be ignored.

    Decimal numbers in ASCII and inf are valid, with or without whitespace around.
    """
    try:
        fps = parse_decimal(raw.strip().decode("ascii"))
    except UnicodeDecodeError:
        return None
    return None if fps is None or fps < 0.0 else abs(fps)  # -0 is 0


def parse_boost(raw: bytes) -> Boost | None:
    """Returns the boost that a value stands for: an fps and a time, with whitespace between; None if it isn't valid.

    The time must be Unix seconds up to ``MAX_TS``: a boost without an end would be an override that few look for, and
    milliseconds would last for 50,000 years.
    """
    words = raw.split()
    if len(words) != 2:
        return None
    fps, until = map(parse_fps, words)
    return None if fps is None or until is None or until > MAX_TS else Boost(fps, until)


def in_text_order(values: Mapping[str, Value], most: int) -> dict[str, Value]:
    """Returns the fields of a small hash that are in force: the first ones by their names' bytes, at most so many.

    Args:
        values: the valid fields, by name.
        most: :data:`MAX_PATTERNS` or :data:`MAX_BOOSTS`.
    """
    names = values if len(values) <= most else sorted(values, key=lambda name: name.encode(errors="surrogateescape"))
    return {name: values[name] for name in itertools.islice(names, most)}


def show(raw: bytes) -> str:
    """Returns an invalid value as text for people: never empty, at most 64 characters and an ellipsis."""
    text = raw.decode(errors="backslashreplace")
    if not text.strip():
        return repr(text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def fallback(wildcard: float | None, default: float) -> Limit:
    """Returns the limit of streams that nothing else sets one for: the wildcard if there is one, else the default."""
    if wildcard is not None:
        return Limit(wildcard, FpsSource.WILDCARD)
    return Limit(default, FpsSource.DEFAULT)


def lasting_limit(own: float | None, pattern: float | None, otherwise: Limit) -> Limit:
    """Returns the limit of a stream without its boost; the arguments are those of :func:`limit_in_force`."""
    if own is not None:
        return Limit(own, FpsSource.OVERRIDE)
    if pattern is not None:
        return Limit(pattern, FpsSource.PATTERN)
    return otherwise


def limit_in_force(
    own: float | None, pattern: float | None, otherwise: Limit, boost: Boost | None, now: float
) -> Limit:
    """Returns the limit of a stream.

    Args:
        own: the stream's own field, frames per second; None for none.
        pattern: the fps of the pattern that matches the stream best; None if none does.
        otherwise: the limit of streams that have neither, as :func:`fallback` returns it.
        boost: the stream's boost, which may have ended; None for none.
        now: Unix seconds.
    """
    limit = lasting_limit(own, pattern, otherwise)
    if boost is None or limit.fps == 0.0 or now >= boost.until:
        return limit
    return Limit(boost.fps, FpsSource.BOOST)
