"""The commands about documents: import, export and diff."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer

from console.control.changes import Snapshot
from console.control.documents import DocumentError, difference, from_csv, from_yaml, to_csv, to_yaml
from console.control.plan import Plan
from console.fpsctl.carry_out import carry_out
from console.fpsctl.columns import Column
from console.fpsctl.report import FOUND, FpsctlError
from console.fpsctl.session import Session
from console.fpsctl.show import rows

MOST_BYTES = 64 * 1024 * 1024


class Format(enum.StrEnum):
    """The form of a document."""

    YAML = "yaml"
    CSV = "csv"


File = Annotated[str, typer.Argument(metavar="FILE", help="a YAML or CSV document; - for standard input")]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="of the document; by default by the file's name, else yaml")
]
Replace = Annotated[bool, typer.Option("--replace", help="remove limits and patterns that the document lacks")]

_HEAD = (Column("", flexible=True), Column("NOW", right=True), Column(""), Column("THEN"))


def import_(
    context: typer.Context,
    file: File,
    format_name: FormatOption = None,
    replace: Replace = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="don't ask")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="show what would change, and change nothing")
    ] = False,
) -> None:
    """Set the limits of a document; those that it doesn't mention stay."""
    session: Session = context.obj
    document = _read(file, format_name)

    def plan() -> Plan:
        return Plan(difference(session.complete(session.limits.snapshot()), document, replace=replace))

    carry_out(session, plan, asks=True, yes=yes, dry_run=dry_run)


def export(
    context: typer.Context,
    format_name: Annotated[Format, typer.Option("--format", help="of the document")] = Format.YAML,
) -> None:
    """Print the limits and patterns as a document. Boosts aren't part of it, since they end."""
    session: Session = context.obj
    limits = session.complete(session.limits.snapshot())
    session.limits_seen(limits)
    session.report.text(to_yaml(limits) if format_name is Format.YAML else to_csv(limits))
    if session.report.output.problem:
        raise FpsctlError(f"standard output can't be written: {session.report.output.problem}")


def diff(context: typer.Context, file: File, format_name: FormatOption = None, replace: Replace = False) -> int:
    """Show what an import would change; the exit code is 3 if it is anything."""
    session: Session = context.obj
    limits = session.complete(session.limits.snapshot())
    session.limits_seen(limits)
    changes = difference(limits, _read(file, format_name), replace=replace)
    if changes:
        session.report.table(_HEAD, rows(changes, session.now()))
    return FOUND if changes else 0


def _read(file: str, format_name: Format | None) -> Snapshot:
    """Returns the limits of a document; raises FpsctlError if it can't be read or isn't valid."""
    try:
        raw = sys.stdin.buffer.read(MOST_BYTES + 1) if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise FpsctlError(f"cannot read {file}: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise FpsctlError(f"{file} has more than {MOST_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FpsctlError(f"{file} isn't UTF-8 text") from None
    by_name = Format.CSV if file.lower().endswith(".csv") else Format.YAML
    try:
        return from_csv(text) if (format_name or by_name) is Format.CSV else from_yaml(text)
    except DocumentError as error:
        raise FpsctlError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
