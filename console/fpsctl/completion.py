"""Completion of stream names in shells."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Final

import typer

_HARMLESS: Final = re.compile(r"[\w./@+-]+")


def complete_stream(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the streams and fields whose names begin so; none if Redis can't be asked."""
    from console.fpsctl.connect import session_from

    names: set[str] = set()
    root = context.find_root()
    with contextlib.suppress(Exception), contextlib.closing(session_from(root.params)) as session:
        limits = session.limits.snapshot()
        names |= limits.limits.keys() | limits.boosts.keys()
        names |= session.streams()
    return harmless(name for name in names if name.startswith(incomplete))


def harmless(names: Iterable[str]) -> list[str]:
    """Returns the names that a shell takes as they are, in order.

    What is completed becomes part of a command line, and zsh even evaluates the list, so a name such as ``$(reboot)``
    would be run.
    """
    return sorted(name for name in names if _HARMLESS.fullmatch(name) and not name.startswith("-"))
