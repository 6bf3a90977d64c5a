"""Which of several limits of a stream is in force, as far as Redis alone tells: the rule of the sidecars, with texts. Pure.

The rule itself is :mod:`handcounter.pacing.limits`. A sidecar also keeps the last valid value of a field whose new one isn't
valid, and knows its --fps; Redis knows neither.
"""

import enum
import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from console.control.changes import Kind, Snapshot, raw
from handcounter.pacing import limits as pacing_limits
from handcounter.pacing.limits import Boost
from handcounter.pacing.patterns import is_pattern, matches

WILDCARD: Final = "*"


class Source(enum.StrEnum):
    """Where a limit comes from: the words of the contract, which all tools show."""

    BOOST = "boost"
    OVERRIDE = "override"
    PATTERN = "pattern"
    WILDCARD = "wildcard"
    DEFAULT = "default"


class InForce(NamedTuple):
    """The limit in force, and why."""

    fps: float | None
    """Frames per second; None: the sidecar's --fps, which isn't known."""
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
    return pacing_limits.parse_fps(raw(text))


def parse_boost(text: str) -> Boost | None:
    """Returns the boost that a value "FPS UNTIL" stands for; None if it isn't valid."""
    return pacing_limits.parse_boost(raw(text))


def format_fps(fps: float) -> str:
    """Returns an fps as it is written to Redis, in the shortest form that is exact."""
    if math.isinf(fps):
        return "inf"
    return str(int(fps)) if fps == int(fps) and fps < 1e15 else repr(fps)


def format_boost(boost: Boost) -> str:
    """Returns a boost as it is written to Redis, its end to the millisecond."""
    return f"{format_fps(boost.fps)} {boost.until:.3f}"


def is_glob(text: str) -> bool:
    """Returns whether a text on a command line stands for the streams that it matches; ``*`` alone is a field."""
    return text != WILDCARD and is_pattern(text)


def matching(glob: str, names: Iterable[str]) -> list[str]:
    """Returns the names that a glob matches, in order, by the rule of patterns; never the field ``*``."""
    return sorted(name for name in set(names) if name != WILDCARD and matches(glob, name))


def in_force(name: str, snapshot: Snapshot, now: float, default: float | None = None) -> InForce:
    """Returns the limit in force.

    Args:
        name: the stream.
        snapshot: at least its own field, the field ``*``, all patterns, and all boosts if there are more than may be in force.
        now: Unix seconds.
        default: the sidecar's --fps; None if it isn't known.
    """
    text = snapshot.value(Kind.LIMIT, name)
    own = parse_fps(text)
    match = snapshot.patterns_in_force.match(name)
    otherwise = pacing_limits.fallback(
        parse_fps(snapshot.value(Kind.LIMIT, WILDCARD)), math.nan if default is None else default
    )
    boost = snapshot.boosts_in_force.get(name)
    pattern = match.fps if match else None
    lasting = pacing_limits.lasting_limit(own, pattern, otherwise)
    limit = pacing_limits.limit_in_force(own, pattern, otherwise, boost, now)
    source = Source[limit.source.name]
    return InForce(
        _known(limit.fps),
        source,
        match.pattern if match and source is Source.PATTERN else "",
        boost.until if boost and source is Source.BOOST else None,
        text if text and own is None else "",
        _known(lasting.fps) if source is Source.BOOST else None,
    )


def _known(fps: float) -> float | None:
    return None if math.isnan(fps) else fps
