"""What may be wrong with the limits in Redis. Pure."""

import enum
import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

from console.control.changes import Kind, Snapshot
from console.control.names import look, nearest, quoted, rough_look, twins, word
from console.control.plan import pattern_fault
from console.control.rule import WILDCARD, format_fps, in_force, parse_boost, parse_fps
from handcounter.pacing.limits import MAX_BOOSTS, MAX_PATTERNS
from handcounter.pacing.patterns import is_pattern, matches
from handcounter.pacing.schedule import stream_name_error


class Severity(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """It has no effect, or not the one that was meant."""
    WARNING = "warning"


class Code(enum.StrEnum):
    """What is found, by a name that stays."""

    BAD_VALUE = "bad-value"
    BAD_NAME = "bad-name"
    BAD_PATTERN = "bad-pattern"
    BAD_BOOST = "bad-boost"
    WRONG_TYPE = "wrong-type"
    PATTERN_IN_LIMITS = "pattern-in-limits"
    UNUSED = "unused"
    ALIKE = "alike"
    ENDED_BOOST = "ended-boost"
    TOO_MANY = "too-many"
    CAPACITY = "capacity"


class Finding(NamedTuple):
    """Something that may be wrong."""

    severity: Severity
    code: Code
    kind: Kind
    name: str
    """The field; empty if it is about all of them."""
    message: str
    """A sentence for people, with what to do."""


def lint(
    snapshot: Snapshot,
    now: float,
    *,
    streams: Collection[str] | None = None,
    sources: dict[str, float] | None = None,
    capacity: float | None = None,
    planned: bool = False,
    default: float | None = None,
) -> list[Finding]:
    """Returns what may be wrong, errors first, then by kind and name.

    Args:
        snapshot: all limits.
        now: Unix seconds.
        streams: the streams that exist; None if that isn't known.
        sources: the rates of the streams' sources where they are known, frames per second.
        capacity: how many frames per second the workers count at most; None if that isn't known.
        planned: whether a person says so: then streams whose sources aren't known ask for their limits, else for nothing.
        default: the sidecar's --fps; None if it isn't known.
    """
    found = [*_values(snapshot, now), *_names(snapshot, streams)]
    if capacity is not None and streams is not None:
        asking = streams if planned else [name for name in streams if name in (sources or {})]
        found += _capacity(snapshot, now, asking, sources or {}, capacity, default)
    return sorted(found, key=lambda each: (each.severity is not Severity.ERROR, each.kind, each.name, each.code))


def _values(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    """Finds values without effect."""
    error, warning = Severity.ERROR, Severity.WARNING
    for kind in snapshot.unread:
        message = f"the {kind}s can't be read: their key isn't a hash, or this user of Redis may not read it"
        yield Finding(error, Code.WRONG_TYPE, kind, "", message)
    for name, value in snapshot.limits.items():
        if problem := stream_name_error(name):
            yield Finding(error, Code.BAD_NAME, Kind.LIMIT, name, f"no stream can have this name: {problem}")
        elif parse_fps(value) is None:
            yield Finding(error, Code.BAD_VALUE, Kind.LIMIT, name, _bad_value(word(name), value))
    for pattern, value in snapshot.patterns.items():
        if problem := pattern_fault(pattern):
            yield Finding(error, Code.BAD_PATTERN, Kind.PATTERN, pattern, problem)
        elif parse_fps(value) is None:
            yield Finding(error, Code.BAD_VALUE, Kind.PATTERN, pattern, _bad_value(f"--pattern {word(pattern)}", value))
    for name, value in snapshot.boosts.items():
        boost = parse_boost(value)
        if boost is None:
            message = f"{quoted(value)} isn't a boost (FPS UNTIL), so it is ignored"
            yield Finding(error, Code.BAD_BOOST, Kind.BOOST, name, message)
        elif boost.until <= now:
            yield Finding(
                warning, Code.ENDED_BOOST, Kind.BOOST, name, "the boost has ended; the next change removes it"
            )

    for kind, most in ((Kind.PATTERN, MAX_PATTERNS), (Kind.BOOST, MAX_BOOSTS)):
        if (number := len(snapshot.of(kind))) > most:
            message = f"there are {number} of them, and those after the first {most} in text order have no effect"
            yield Finding(error, Code.TOO_MANY, kind, "", message)


def _names(snapshot: Snapshot, streams: Collection[str] | None) -> Iterator[Finding]:
    """Finds names that nobody has, and names that look like others."""
    warning = Severity.WARNING
    known = set(streams or ())
    limits = [name for name in snapshot.limits if name != WILDCARD]
    for group in twins({*limits, *snapshot.boosts, *known}):
        for name in group:
            if name in snapshot.limits or name in snapshot.boosts:
                others = ", ".join(quoted(each) for each in group if each != name)
                message = f"looks like {others}, but is another stream"
                yield Finding(warning, Code.ALIKE, Kind.LIMIT, name, message)
    roughly: dict[str, str] = {rough_look(name): name for name in sorted(known)}
    for name in limits:
        if name in known or stream_name_error(name):
            continue
        if is_pattern(name):
            message = f"a pattern has no effect here: fpsctl set --pattern {word(name)} FPS, and fpsctl reset this one"
            yield Finding(Severity.ERROR, Code.PATTERN_IN_LIMITS, Kind.LIMIT, name, message)
        elif streams is not None:
            twin = roughly.get(rough_look(name))
            similar = [twin] if twin and look(twin) != look(name) else nearest(name, sorted(known), 1)
            hint = f"; is {quoted(similar[0])} meant?" if similar else ""
            yield Finding(warning, Code.UNUSED, Kind.LIMIT, name, f"no stream has this name at present{hint}")
    if streams is not None:
        for pattern in snapshot.patterns:
            if not pattern_fault(pattern) and not any(matches(pattern, name) for name in known):
                yield Finding(warning, Code.UNUSED, Kind.PATTERN, pattern, "no stream matches at present")


def _capacity(
    snapshot: Snapshot,
    now: float,
    streams: Collection[str],
    sources: dict[str, float],
    capacity: float,
    default: float | None,
) -> Iterator[Finding]:
    asked = demand(snapshot, now, streams, sources, default)
    if asked > capacity:
        message = (
            f"the limits ask for {_rate(asked)} frames per second, the workers count about {_rate(capacity)}: "
            "streams get turns in proportion to their limits"
        )
        yield Finding(Severity.WARNING, Code.CAPACITY, Kind.LIMIT, "", message)


def demand(
    snapshot: Snapshot, now: float, streams: Collection[str], sources: dict[str, float], default: float | None = None
) -> float:
    """Returns the frames per second that the limits of these streams ask for.

    A stream asks for no more than its source delivers; one without a limit and with an unknown source isn't counted.
    """
    asked = 0.0
    for name in streams:
        fps = in_force(name, snapshot, now, default).fps
        wanted = min(math.inf if fps is None else fps, sources.get(name, math.inf))
        asked += wanted if math.isfinite(wanted) else 0.0
    return asked


def _bad_value(words: str, value: str) -> str:
    """Returns what is wrong with a value; ``words`` are those of the command line that stand for its field."""
    guess = parse_fps(value.strip().replace(",", ".").removesuffix("fps").strip())
    hint = f"; {format_fps(guess)} would be" if guess is not None else f"; fpsctl set {words} FPS mends it"
    return f"{quoted(value)} isn't a valid fps, so it is ignored{hint}"


def _rate(fps: float) -> str:
    return f"{fps:.1f}" if fps < 100 else f"{fps:.0f}"
