"""The command audit: who changed which limit, and when."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from console.control.changes import OTHER_TOOL, AuditEntry
from console.control.durations import show_time
from console.fpsctl.columns import Column
from console.fpsctl.completion import complete_stream
from console.fpsctl.report import WRONG_USAGE, FpsctlError
from console.fpsctl.session import Session
from console.fpsctl.show import label, rows

_HEAD = (
    Column("WHEN"),
    Column("WHO"),
    Column("WITH"),
    Column("WHAT", flexible=True),
    Column("FROM", right=True),
    Column(""),
    Column("TO"),
)


def audit(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_stream)] = "",
    last: Annotated[int, typer.Option("--last", min=1, help="so many of the newest")] = 20,
    json: Annotated[bool, typer.Option("--json", help="one JSON object, see docs/fpsctl.md")] = False,
) -> None:
    """Show who changed which limit and when, the newest last; also what others have changed, once it is noticed."""
    session: Session = context.obj
    if last < 1:
        raise FpsctlError("--last must be at least 1", WRONG_USAGE)
    session.limits_seen(session.limits.snapshot())
    found: list[AuditEntry] = []
    for entry in session.limits.audit():
        if not name or entry.change.name == name:
            found.append(entry)
            if len(found) == last:
                break
    found.reverse()
    if json:
        session.report.json({"changes": [_record(entry) for entry in found]})
        return
    session.report.table(_HEAD, [_row(entry) for entry in found])


def _row(entry: AuditEntry) -> tuple[str, ...]:
    ((_, old, arrow, new),) = rows([entry.change], entry.at)
    tool = "another tool" if entry.tool == OTHER_TOOL else entry.tool
    return show_time(entry.at), entry.who or "?", tool, label(entry.change), old, arrow, new


def _record(entry: AuditEntry) -> dict[str, Any]:
    kind, name, old, new = entry.change
    return {
        "id": entry.entry_id,
        "at": entry.at,
        "who": entry.who or None,
        "tool": entry.tool,
        "kind": kind.value,
        "name": name,
        "old": old or None,
        "new": new or None,
        "until": entry.until,
        "batch": entry.batch or None,
    }
