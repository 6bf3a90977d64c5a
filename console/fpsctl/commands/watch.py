"""The command watch: changes of limits as they are made."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer

from console.control.changes import entry_of
from console.control.durations import show_time
from console.control.names import shown
from console.fpsctl.session import Session
from console.fpsctl.show import author, label, rows

LOOK_S: Final = 1.0
"""How often changes by other tools are looked for, at most; a look at many limits takes a 20th of the time at most."""
LOOK_SHARE: Final = 20


def watch(
    context: typer.Context,
    count: Annotated[int | None, typer.Option("--count", min=1, help="end after so many changes")] = None,
) -> None:
    """Print each change of a limit as it is made, by whatever tool, until Ctrl-C."""
    session: Session = context.obj
    limits, key = session.limits, session.limits.keys.audit
    client: Any = session.client
    session.limits_seen(limits.snapshot())
    newest = next(limits.audit(most=1), None)
    last, left, look_at = newest.entry_id if newest else "0-0", count, time.monotonic() + LOOK_S
    while left is None or left > 0:
        answer = client.xread({key: last}, count=100, block=int(LOOK_S * 1000))
        for _, entries in answer or ():
            for last, fields in entries:
                entry = entry_of(last, fields)
                if entry is None:
                    continue
                ((_, old, arrow, new),) = rows([entry.change], entry.at)
                text = f"{label(entry.change)}: {old} {arrow} {new}"
                session.report.line(f"{show_time(entry.at)}  {shown(text)}  ({author(entry)})")
                left = None if left is None else left - 1
        if session.report.output.problem:
            return
        if (begun := time.monotonic()) >= look_at:
            session.limits_seen(limits.snapshot())
            ended = time.monotonic()
            look_at = ended + max(LOOK_S, LOOK_SHARE * (ended - begun))
