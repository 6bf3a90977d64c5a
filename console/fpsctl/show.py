"""Limits, changes and times as words. Pure."""

from collections.abc import Sequence

from console.control.changes import OTHER_TOOL, AuditEntry, Change, Kind
from console.control.durations import show_duration
from console.control.names import quoted, shown
from console.control.rule import InForce, Source, format_fps, parse_boost


def limit(fps: float | None) -> str:
    """Returns an fps as a cell: ``paused``, ``inf``, a number, or ``?`` if it isn't known."""
    return "?" if fps is None else "paused" if fps == 0.0 else format_fps(fps)


def rate(fps: float | None) -> str:
    """Returns a measured rate as a cell, to a tenth or, below 1, a hundredth; ``-`` if it isn't known."""
    if fps is None:
        return "-"
    return f"{fps:.0f}" if fps >= 100 else f"{fps:.1f}" if fps >= 1 or fps == 0 else f"{fps:.2f}"


def source(found: InForce) -> str:
    """Returns where a limit comes from as a cell: the pattern itself, or the word."""
    return found.by or found.source


def origin(found: InForce, now: float) -> str:
    """Returns where a limit comes from as the end of a sentence; ``now`` in Unix seconds."""
    if found.source is Source.BOOST:
        left = show_duration((found.until or now) - now)
        return f"a boost, for another {left}; then {limit(found.without_boost)}"
    return {
        Source.OVERRIDE: "its own field",
        Source.PATTERN: f"the pattern {quoted(found.by)}",
        Source.WILDCARD: "the field *",
        Source.DEFAULT: "the sidecar's --fps",
    }[found.source]


def rows(changes: Sequence[Change], now: float) -> list[tuple[str, str, str, str]]:
    """Returns changes as the cells of a table: what, old value, arrow, new value."""
    return [
        (label(change), _value(change.kind, change.old, now), "→", _value(change.kind, change.new, now))
        for change in changes
    ]


def label(change: Change) -> str:
    """Returns what a change is of, such as ``cam1`` or ``boost of cam1``."""
    name = quoted(change.name) if change.name != "*" else "*"
    return {Kind.LIMIT: name, Kind.PATTERN: f"pattern {name}", Kind.BOOST: f"boost of {name}"}[change.kind]


def _value(kind: Kind, value: str, now: float) -> str:
    if not value:
        return "none"
    boost = parse_boost(value) if kind is Kind.BOOST else None
    if boost is None:
        return shown(value, 40)
    left = boost.until - now
    return f"{value.split()[0]} for {show_duration(left)}" if left > 0 else f"{value.split()[0]}, ended"


def sentence(entry: AuditEntry) -> str:
    """Returns what somebody did as a sentence without an end."""
    ((what, old, _, new),) = rows([entry.change], entry.at)
    return f"{author(entry)} changed {what} from {old} to {new}"


def author(entry: AuditEntry) -> str:
    """Returns who made a change."""
    if entry.tool == OTHER_TOOL:
        return "somebody with another tool"
    return shown(entry.who, 60) or "somebody"


def ago(at: float, now: float) -> str:
    """Returns how long ago a time was; both in Unix seconds."""
    return f"{show_duration(now - at)} ago"
