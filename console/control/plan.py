"""What a command would change: the changes, what a person should know about them, and why some are refused. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from console.control.changes import Change, Kind, Snapshot
from console.control.names import quoted
from console.control.rule import (
    WILDCARD,
    Source,
    format_boost,
    format_fps,
    in_force,
    parse_boost,
    parse_fps,
)
from handcounter.pacing.limits import Boost
from handcounter.pacing.patterns import is_pattern, pattern_error
from handcounter.pacing.schedule import stream_name_error


class Plan(NamedTuple):
    """What is to be done."""

    changes: tuple[Change, ...] = ()
    """In the order in which they are made, at most one of each field."""
    notes: tuple[str, ...] = ()
    """Sentences for people, about what is done."""
    refusals: tuple[str, ...] = ()
    """Sentences for people, about what can't be done and what to do instead."""


class FpsError(ValueError):
    """A text isn't a valid fps; the message says what one is."""


def fps_of(text: str) -> float:
    """Returns the fps that a person wrote, frames per second.

    Raises:
        FpsError: It isn't one.
    """
    fps = parse_fps(text)
    if fps is None:
        raise FpsError(f"{quoted(text)} isn't a valid fps: 0 or more frames per second, as 0.25 or 10, or inf")
    return fps


def set_limits(names: Iterable[str], fps: float, snapshot: Snapshot, now: float, *, end_boost: bool = False) -> Plan:
    """Returns the plan to set the own limit of streams, or of ``*``.

    Args:
        names: the streams.
        fps: frames per second.
        snapshot: at least the streams' own fields and boosts.
        now: Unix seconds.
        end_boost: whether a boost that is in force ends; else it stays, and a note says so.
    """
    changes: list[Change] = []
    notes: list[str] = []
    refusals: list[str] = []
    for name in names:
        if error := stream_name_error(name):
            refusals.append(error)
            continue
        changes += _set(Kind.LIMIT, name, format_fps(fps), snapshot)
        boost = _boost_now(name, snapshot, now)
        if boost and end_boost:
            changes += _set(Kind.BOOST, name, "", snapshot)
        elif boost and fps != 0.0:
            notes.append(
                f"{quoted(name)} is boosted to {format_fps(boost.fps)}, so the new limit acts when the boost ends; "
                "--end-boost ends it now"
            )
    return Plan(tuple(changes), tuple(notes), tuple(refusals))


def set_pattern(pattern: str, fps: float | None, snapshot: Snapshot) -> Plan:
    """Returns the plan to set the limit of a pattern; None for the fps removes the pattern."""
    if error := pattern_fault(pattern):
        return Plan(refusals=(error,))
    return Plan(_set(Kind.PATTERN, pattern, "" if fps is None else format_fps(fps), snapshot))


def pattern_fault(pattern: str) -> str | None:
    """Returns why a text shouldn't be a pattern; None if it may be one."""
    if error := pattern_error(pattern):
        return error
    if pattern == WILDCARD:
        return "* isn't a pattern but a field of the limits: fpsctl set '*' FPS"
    if not is_pattern(pattern):
        return f"{quoted(pattern)} has no * and no ?, so it isn't a pattern but the name of a stream"
    return None


def pause(names: Iterable[str], snapshot: Snapshot) -> Plan:
    """Returns the plan to pause streams. The audit keeps the limits that they had, for :func:`resume`."""
    changes: list[Change] = []
    notes, refusals = [], []
    for name in names:
        if error := stream_name_error(name):
            refusals.append(error)
        elif parse_fps(snapshot.value(Kind.LIMIT, name)) == 0.0:
            notes.append(f"{quoted(name)} is paused already")
        else:
            changes += _set(Kind.LIMIT, name, "0", snapshot)
    return Plan(tuple(changes), tuple(notes), tuple(refusals))


def resume(names: Iterable[str], former: Mapping[str, str], snapshot: Snapshot, now: float) -> Plan:
    """Returns the plan to end pauses.

    Args:
        names: the streams.
        former: the value of each field before it was paused, empty if there was none; a stream whose former value
            isn't known is absent.
        snapshot: at least the streams' own fields and boosts, ``*`` and all patterns.
        now: Unix seconds.
    """
    changes: list[Change] = []
    notes, refusals = [], []
    for name in names:
        if parse_fps(snapshot.value(Kind.LIMIT, name)) == 0.0:
            changes += _set(Kind.LIMIT, name, former.get(name, ""), snapshot)
            if name not in former:
                notes.append(
                    f"the limit of {quoted(name)} before its pause isn't in the audit, so it gets none of its own"
                )
            continue
        found = in_force(name, snapshot, now)
        if found.fps != 0.0:
            notes.append(f"{quoted(name)} isn't paused")
        elif found.source is Source.BOOST:
            changes += _set(Kind.BOOST, name, "", snapshot)
        else:
            place = f"the pattern {quoted(found.by)}" if found.source is Source.PATTERN else "the field *"
            refusals.append(f"{quoted(name)} is paused by {place}: change that, or give the stream a limit of its own")
    return Plan(tuple(changes), tuple(notes), tuple(refusals))


def reset(names: Iterable[str], snapshot: Snapshot) -> Plan:
    """Returns the plan to remove the own limits of streams, and their boosts."""
    changes: list[Change] = []
    notes = []
    for name in names:
        removed = [*_set(Kind.LIMIT, name, "", snapshot), *_set(Kind.BOOST, name, "", snapshot)]
        changes += removed
        if not removed:
            notes.append(f"{quoted(name)} has no limit of its own")
    return Plan(tuple(changes), tuple(notes))


def boost(names: Iterable[str], fps: float, until: float, snapshot: Snapshot) -> Plan:
    """Returns the plan to give streams another limit for a time.

    Args:
        names: the streams.
        fps: frames per second until then; 0 is a pause that ends by itself.
        until: the end, Unix seconds.
        snapshot: at least the streams' own fields and boosts, ``*`` and all patterns.
    """
    changes: list[Change] = []
    refusals = []
    value = format_boost(Boost(fps, until))
    if parse_boost(value) is None:
        return Plan(refusals=("a boost must end before the year 5138",))
    for name in names:
        if error := stream_name_error(name):
            refusals.append(error)
        elif name == WILDCARD:
            refusals.append("a boost is of one stream, or of those that a glob matches; the field * can't be boosted")
        elif _lasting(name, snapshot) == 0.0:
            refusals.append(f"{quoted(name)} is paused, and a boost doesn't end a pause: resume it first")
        else:
            changes += _set(Kind.BOOST, name, value, snapshot)
    return Plan(tuple(changes), refusals=tuple(refusals))


def end_boosts(names: Iterable[str], snapshot: Snapshot) -> Plan:
    """Returns the plan to end boosts now."""
    changes: list[Change] = []
    notes = []
    for name in names:
        ended = _set(Kind.BOOST, name, "", snapshot)
        changes += ended
        if not ended:
            notes.append(f"{quoted(name)} isn't boosted")
    return Plan(tuple(changes), tuple(notes))


def ended_boosts(snapshot: Snapshot, now: float) -> tuple[Change, ...]:
    """Returns the changes that remove boosts that have ended. They have no effect any more, but take room."""
    return tuple(
        Change(Kind.BOOST, name, value, "")
        for name, value in sorted(snapshot.boosts.items())
        if (ended := parse_boost(value)) and ended.until <= now
    )


def _lasting(name: str, snapshot: Snapshot) -> float | None:
    """Returns the limit without the boost, frames per second; None: --fps."""
    return in_force(name, Snapshot(snapshot.limits, snapshot.patterns), 0.0).fps


def _boost_now(name: str, snapshot: Snapshot, now: float) -> Boost | None:
    found = parse_boost(snapshot.value(Kind.BOOST, name))
    return found if found and found.until > now else None


def _set(kind: Kind, name: str, new: str, snapshot: Snapshot) -> tuple[Change, ...]:
    """Returns the change of one field; none if it has the value already."""
    old = snapshot.value(kind, name)
    return () if old == new else (Change(kind, name, old, new),)
