"""Which of several limits of a stream is in force, as far as Redis alone tells. Pure.

The order is: a pause, a boost that hasn't ended, the stream's own field, the longest pattern that matches, the field
``*``, and the sidecar's --fps. A pause is a limit of 0 in whichever of the last four applies; a boost doesn't end it.
"""

import enum
import math
from typing import Final, NamedTuple

from console.control.changes import Kind, Snapshot
from process.decimals import parse_decimal

WILDCARD: Final = "*"


class Source(enum.StrEnum):
    """Where a limit comes from, as tables and JSON show it."""

    BOOST = "boost"
    OWN = "own"
    PATTERN = "pattern"
    WILDCARD = "*"
    DEFAULT = "--fps"


class Boost(NamedTuple):
    """A limit for a time."""

    fps: float
    until: float
    """Unix seconds."""


class InForce(NamedTuple):
    """The limit in force, and why."""

    fps: float | None
    """Frames per second; None: the sidecar's --fps, which Redis doesn't know."""
    source: Source
    by: str = ""
    """The pattern, if the source is one."""
    until: float | None = None
    """The end of a boost, Unix seconds."""
    invalid: str = ""
    """The value of the stream's own field that is ignored because it isn't a valid fps; empty if there is none."""
    without_boost: float | None = None
    """The limit after the boost, if the source is one; None: --fps."""


def parse_fps(text: str) -> float | None:
    """Returns the fps that a value stands for, frames per second from 0 to infinity; None if it isn't valid."""
    fps = parse_decimal(text.strip())
    return None if fps is None or fps < 0.0 else abs(fps)  # -0 is 0


def parse_boost(text: str) -> Boost | None:
    """Returns the boost that a value "FPS UNTIL" stands for; None if it isn't valid."""
    words = text.split()
    if len(words) != 2:
        return None
    fps, until = parse_fps(words[0]), parse_decimal(words[1])
    return None if fps is None or until is None or not math.isfinite(until) else Boost(fps, until)


def format_fps(fps: float) -> str:
    """Returns an fps as it is written to Redis, in the shortest form that is exact."""
    if math.isinf(fps):
        return "inf"
    return str(int(fps)) if fps == int(fps) and fps < 1e15 else repr(fps)


def format_boost(boost: Boost) -> str:
    """Returns a boost as it is written to Redis."""
    return f"{format_fps(boost.fps)} {boost.until:.3f}"


def pattern_matches(pattern: str, name: str) -> bool:
    """Returns whether a name matches a pattern, in which ``*`` stands for any text."""
    first, *others = pattern.split("*")
    if not others:
        return name == pattern
    if not name.startswith(first) or len(name) < len(pattern) - len(others):
        return False
    position, last = len(first), others.pop()
    for part in others:
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(name) - len(last) >= position and name.endswith(last)


def longest_pattern(name: str, snapshot: Snapshot) -> str:
    """Returns the valid pattern that applies to a stream: the longest, of equally long ones the first; empty if none does."""
    fitting = [
        pattern
        for pattern, value in snapshot.patterns.items()
        if parse_fps(value) is not None and pattern_matches(pattern, name)
    ]
    return min(fitting, key=lambda pattern: (-len(pattern), pattern), default="")


def in_force(name: str, snapshot: Snapshot, now: float, default: float | None = None) -> InForce:
    """Returns the limit in force.

    Args:
        name: the stream.
        snapshot: at least its own field and boost, the field ``*``, and all patterns.
        now: Unix seconds.
        default: the sidecar's --fps; None if it isn't known.
    """
    own = snapshot.value(Kind.LIMIT, name)
    fps = parse_fps(own) if own else None
    invalid = own if own and fps is None else ""
    if fps is not None:
        base = InForce(fps, Source.OWN)
    elif pattern := longest_pattern(name, snapshot):
        base = InForce(parse_fps(snapshot.patterns[pattern]), Source.PATTERN, pattern, invalid=invalid)
    elif (wildcard := parse_fps(snapshot.value(Kind.LIMIT, WILDCARD))) is not None:
        base = InForce(wildcard, Source.WILDCARD, invalid=invalid)
    else:
        base = InForce(default, Source.DEFAULT, invalid=invalid)
    boost = parse_boost(snapshot.value(Kind.BOOST, name))
    if boost is None or boost.until <= now or base.fps == 0.0:
        return base
    return InForce(boost.fps, Source.BOOST, "", boost.until, invalid, base.fps)
