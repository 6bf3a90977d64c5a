"""Limits, changes and times as words. Pure."""

from console.control.changes import OTHER_TOOL, AuditEntry
from console.control.names import quoted, shown
from console.control.rule import InForce, Source, format_fps
from console.fpsctl.durations import show_duration


def limit(fps: float | None) -> str:
    """Returns an fps as a cell: ``paused``, ``inf``, a number, or ``?`` if it isn't known."""
    return "?" if fps is None else "paused" if fps == 0.0 else format_fps(fps)


def rate(fps: float | None) -> str:
    """Returns a measured rate as a cell, to a tenth or, below 1, a hundredth; ``-`` if it isn't known."""
    if fps is None:
        return "-"
    return f"{fps:.0f}" if fps >= 100 else f"{fps:.1f}" if fps >= 1 or fps == 0 else f"{fps:.2f}"


def source(found: InForce) -> str:
    """Returns where a limit comes from as a cell."""
    return found.by if found.source is Source.PATTERN else found.source.value


def origin(found: InForce, now: float) -> str:
    """Returns where a limit comes from as the end of a sentence; ``now`` in Unix seconds."""
    if found.source is Source.BOOST:
        left = show_duration((found.until or now) - now)
        return f"a boost, for another {left}; then {limit(found.without_boost)}"
    return {
        Source.OWN: "its own field",
        Source.PATTERN: f"the pattern {quoted(found.by)}",
        Source.WILDCARD: "the field *",
        Source.DEFAULT: "the sidecar's --fps",
    }[found.source]


def sentence(entry: AuditEntry) -> str:
    """Returns what somebody did as a sentence without an end."""
    kind, name, old, new = entry.change
    what = quoted(name) if kind.value == "limit" else f"{kind.value} {quoted(name)}"
    return f"{author(entry)} changed {what} from {shown(old, 40) or 'none'} to {shown(new, 40) or 'none'}"


def author(entry: AuditEntry) -> str:
    """Returns who made a change."""
    if entry.tool == OTHER_TOOL:
        return "somebody with another tool"
    return shown(entry.who, 60) or "somebody"


def ago(at: float, now: float) -> str:
    """Returns how long ago a time was; both in Unix seconds."""
    return f"{show_duration(now - at)} ago"
