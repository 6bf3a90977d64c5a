"""Completion of stream names in shells."""

from __future__ import annotations

import contextlib

import typer


def complete_stream(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the streams and fields whose names begin so; none if Redis can't be asked."""
    from console.fpsctl.connect import session_from

    names: set[str] = set()
    root = context.find_root()
    with contextlib.suppress(Exception), contextlib.closing(session_from(root.params)) as session:
        limits = session.limits.snapshot()
        names |= limits.limits.keys() | limits.boosts.keys()
        names |= session.streams()
    return sorted(name for name in names if name.startswith(incomplete) and name.isprintable())
