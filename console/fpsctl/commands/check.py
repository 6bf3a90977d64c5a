"""The command lint: what may be wrong with the limits."""

from __future__ import annotations

from typing import Annotated

import typer

from console.control.lint import Finding, Severity, lint
from console.control.names import shown
from console.fpsctl.report import FOUND
from console.fpsctl.rows import number
from console.fpsctl.session import Session
from console.fpsctl.workers import measured_capacity


def lint_(
    context: typer.Context,
    capacity: Annotated[
        float | None,
        typer.Option(
            "--capacity",
            metavar="FPS",
            help="how many frames per second the workers can count; by default as many as they do while they are full",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="warnings fail, too")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object, see docs/fpsctl.md")] = False,
) -> int:
    """Find limits without effect: bad values, names that no stream has or that look alike, patterns in the wrong hash."""
    session: Session = context.obj
    limits = session.limits.snapshot()
    session.limits_seen(limits)
    said = session.sidecars.streams()
    names = {stream.stream_name for each in said for stream in each.streams} | session.workers.names()
    sources = {stream.stream_name: stream.source_fps for each in said for stream in each.streams if stream.source_fps}
    planned = capacity is not None
    if capacity is None:
        capacity = measured_capacity(session.workers)
    for name, fields in session.workers.streams(names).items() if capacity is not None else ():
        sources.setdefault(name, number(fields.get("source_fps")))
    found = lint(
        limits,
        session.now(),
        streams=names or None,
        sources={name: fps for name, fps in sources.items() if fps > 0.0},
        capacity=capacity,
        planned=planned,
        default=session.sidecars.default_fps() if capacity is not None else None,
    )
    for problem in session.sidecars.problems(said):
        session.report.note(problem)
    if session.workers.problem:
        session.report.note(session.workers.problem)
    if not names:
        session.report.note("no stream is known at present, so names can't be compared with those of streams")
    if json:
        session.report.json({"findings": [_record(each) for each in found]})
    else:
        for each in found:
            where = "" if not each.name else f"{each.kind} {shown(each.name)!r}: "
            session.report.line(f"{each.severity}: {where}{each.message} [{each.code}]")
        errors = sum(each.severity is Severity.ERROR for each in found)
        total = len(limits.limits) + len(limits.patterns) + len(limits.boosts)
        session.report.line(f"{total} limits: {errors} errors, {len(found) - errors} warnings")
    return FOUND if any(strict or each.severity is Severity.ERROR for each in found) else 0


def _record(finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.severity.value,
        "code": finding.code.value,
        "kind": finding.kind.value,
        "name": finding.name,
        "message": finding.message,
    }
