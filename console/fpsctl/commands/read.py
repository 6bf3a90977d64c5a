"""The commands that show limits: list and get."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from console.control.changes import Kind, Snapshot
from console.control.durations import show_duration
from console.control.names import quoted
from console.control.rule import WILDCARD, InForce, in_force, is_glob, matching, parse_fps
from console.fpsctl import show
from console.fpsctl.columns import Column
from console.fpsctl.completion import complete_stream
from console.fpsctl.session import Session

Json = Annotated[bool, typer.Option("--json", help="one JSON object, see docs/fpsctl.md")]

_HEAD = (Column("STREAM", flexible=True), Column("LIMIT", right=True), Column("FROM"), Column(""))
_PATTERNS = (Column("PATTERN", flexible=True), Column("LIMIT", right=True), Column(""))


def list_(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME|GLOB", autocompletion=complete_stream)] = None,
    json: Json = False,
) -> None:
    """List the limits in Redis, and the limit of every stream that is known."""
    session: Session = context.obj
    report, limits, now = session.report, session.limits.snapshot(), session.now()
    session.limits_seen(limits)
    default = session.sidecars.default_fps()
    streams = session.streams()
    known = sorted((streams | limits.limits.keys() | limits.boosts.keys()) - {WILDCARD})
    if names:
        known = [name for name in known if any(_means(given, name) for given in names)]
    found = {name: in_force(name, limits, now, default) for name in known}
    if json:
        report.json(
            {
                "streams": [record(name, each, limits, name in streams) for name, each in found.items()],
                "patterns": [
                    {"pattern": pattern, "value": value} for pattern, value in sorted(limits.patterns.items())
                ],
                "wildcard": limits.value(Kind.LIMIT, WILDCARD) or None,
                "default_fps": default,
            }
        )
        return
    report.table(
        _HEAD,
        [(name, show.limit(each.fps), show.source(each), _remark(each, now)) for name, each in found.items()],
    )
    if limits.patterns and not names:
        report.line()
        report.table(
            _PATTERNS,
            [(pattern, _shown(value), _invalid(value)) for pattern, value in sorted(limits.patterns.items())],
        )
    if not names:
        report.line()
        report.line(f"all others: {_others(limits, default)}")


def get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_stream)],
    json: Json = False,
) -> None:
    """Show the limit of one stream, and where it comes from."""
    session: Session = context.obj
    limits, now = session.limits.of([name]), session.now()
    if name == WILDCARD:
        _get_wildcard(session, limits, now, json=json)
        return
    found = in_force(name, limits, now, session.sidecars.default_fps())
    streams = session.streams()
    remark = "" if name in limits.limits else session.unknown(name, streams)
    if json:
        session.report.json(record(name, found, limits, name in streams))
    else:
        session.report.line(f"{quoted(name)}: {_limit(found)}, from {show.origin(found, now)}")
        if found.invalid:
            session.report.line(f"its own field, {quoted(found.invalid)}, isn't a valid fps, so it is ignored")
    if remark:
        session.report.note(remark)


def _get_wildcard(session: Session, limits: Snapshot, now: float, *, json: bool) -> None:
    default = session.sidecars.default_fps()
    if not json:
        session.report.line(f"all others: {_others(limits, default)}")
        return
    value = limits.value(Kind.LIMIT, WILDCARD)
    found = in_force("", Snapshot({WILDCARD: value}), now, default)  # no stream has this name
    session.report.json(
        record(WILDCARD, found._replace(invalid=value if parse_fps(value) is None else ""), limits, False)
    )


def record(name: str, found: InForce, limits: Snapshot, seen: bool) -> dict[str, Any]:
    """Returns what is known about the limit of a stream, for JSON."""
    return {
        "stream": name,
        "fps": found.fps,
        "source": found.source,
        "pattern": found.by or None,
        "own": limits.value(Kind.LIMIT, name) or None,
        "invalid": bool(found.invalid),
        "boost_until": found.until,
        "seen": seen,
    }


def _means(given: str, name: str) -> bool:
    return bool(matching(given, [name])) if is_glob(given) else given == name


def _limit(found: InForce) -> str:
    if found.fps is None:
        return "no limit in Redis"
    return f"{show.limit(found.fps)} fps" if found.fps else "paused"


def _remark(found: InForce, now: float) -> str:
    words = []
    if found.until is not None:
        words.append(f"for {show_duration(found.until - now)}, then {show.limit(found.without_boost)}")
    if found.invalid:
        words.append(f"own value {found.invalid!r} isn't valid")
    return ", ".join(words)


def _shown(value: str) -> str:
    fps = parse_fps(value)
    return value if fps is None else show.limit(fps)


def _invalid(value: str) -> str:
    return "" if parse_fps(value) is not None else "isn't valid"


def _others(limits: Snapshot, default: float | None) -> str:
    value = limits.value(Kind.LIMIT, WILDCARD)
    fps = parse_fps(value)
    if fps is not None:
        return f"{show.limit(fps)}, from the field *"
    ignored = f" (the field *, {quoted(value)}, isn't a valid fps)" if value else ""
    return f"{show.limit(default) if default is not None else 'unknown'}, from the sidecar's --fps{ignored}"
