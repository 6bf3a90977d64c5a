"""The commands that change limits: set, pause, resume, reset, boost and undo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from console.control.changes import Snapshot
from console.control.durations import parse_duration
from console.control.names import quoted, word
from console.control.plan import (
    FpsError,
    Plan,
    boost,
    end_boosts,
    fps_of,
    pattern_fault,
    pause,
    reset,
    resume,
    set_limits,
    set_pattern,
)
from console.control.rule import WILDCARD, is_glob, matching
from console.control.undo import former_values, last_entries, undo
from console.fpsctl.carry_out import carry_out
from console.fpsctl.completion import complete_stream
from console.fpsctl.report import WRONG_USAGE, FpsctlError
from console.fpsctl.session import Session
from console.fpsctl.show import ago, sentence

Name = Annotated[str, typer.Argument(metavar="NAME|GLOB", autocompletion=complete_stream)]
Names = Annotated[list[str], typer.Argument(metavar="NAME|GLOB", autocompletion=complete_stream)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="don't ask")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="show what would change, and change nothing")]


def set_(
    context: typer.Context,
    name: Name,
    fps: Annotated[str, typer.Argument(metavar="FPS", help="0 pauses, inf lifts the limit")],
    pattern: Annotated[bool, typer.Option("--pattern", help="NAME is a pattern: also for streams to come")] = False,
    end_boost: Annotated[bool, typer.Option("--end-boost", help="end a boost, so that the limit acts now")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Set the limit of a stream, of all that a glob matches, of all others ('*'), or of a pattern."""
    session: Session = context.obj
    value = _fps(fps)
    if pattern:
        carry_out(session, lambda: set_pattern(name, value, session.limits.of([])), dry_run=dry_run)
        return
    names = _names(session, [name], yes=yes or dry_run)
    if is_glob(name) and pattern_fault(name) is None:
        session.report.note(
            f"of the streams at present; fpsctl set --pattern {word(name)} {fps} is for those to come too"
        )
    _carry_out_for(
        session,
        names,
        lambda limits: set_limits(names, value, limits, session.now(), end_boost=end_boost),
        asks=is_glob(name),
        yes=yes,
        dry_run=dry_run,
    )


def pause_(context: typer.Context, names: Names, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Pause streams. Their limits are kept for resume."""
    session: Session = context.obj
    found = _names(session, names, yes=yes or dry_run)
    _carry_out_for(
        session, found, lambda limits: pause(found, limits), asks=any(map(is_glob, names)), yes=yes, dry_run=dry_run
    )


def resume_(context: typer.Context, names: Names, yes: Yes = False, dry_run: DryRun = False) -> None:
    """End pauses: the streams get the limits back that they had before."""
    session: Session = context.obj
    found = _names(session, names, yes=True)
    session.limits_seen(session.limits.snapshot())  # a pause by another tool
    former = former_values(found, session.limits.audit())
    _carry_out_for(
        session,
        found,
        lambda limits: resume(found, former, limits, session.now()),
        asks=any(map(is_glob, names)),
        yes=yes,
        dry_run=dry_run,
    )


def reset_(
    context: typer.Context,
    names: Names,
    pattern: Annotated[bool, typer.Option("--pattern", help="remove these patterns")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Remove the own limits of streams, so that a pattern, * or --fps applies."""
    session: Session = context.obj
    if pattern:

        def plan() -> Plan:
            limits = session.limits.of([])
            absent = [name for name in names if name not in limits.patterns]
            if absent:
                return Plan(refusals=tuple(f"there is no pattern {quoted(name)}" for name in absent))
            return Plan(tuple(change for name in names for change in set_pattern(name, None, limits).changes))

        carry_out(session, plan, dry_run=dry_run)
        return
    found = _names(session, names, yes=True)
    _carry_out_for(
        session, found, lambda limits: reset(found, limits), asks=any(map(is_glob, names)), yes=yes, dry_run=dry_run
    )


def boost_(
    context: typer.Context,
    name: Name,
    fps: Annotated[str, typer.Argument(metavar="FPS", help="until the boost ends")] = "",
    duration: Annotated[str, typer.Option("--for", metavar="DURATION", help="90s, 15m, 1h30m, 2d")] = "1h",
    end: Annotated[bool, typer.Option("--end", help="end the boost now")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Give a stream another limit for a time; afterwards its own applies again."""
    session: Session = context.obj
    names = _names(session, [name], yes=yes or dry_run or end)
    if end:
        _carry_out_for(
            session, names, lambda limits: end_boosts(names, limits), asks=is_glob(name), yes=yes, dry_run=dry_run
        )
        return
    if not fps:
        raise FpsctlError("expected the FPS of the boost, or --end", WRONG_USAGE)
    value = _fps(fps)
    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        raise FpsctlError(f"--for: {error}", WRONG_USAGE) from None
    until = session.now() + seconds
    _carry_out_for(
        session,
        names,
        lambda limits: boost(names, value, until, limits),
        asks=is_glob(name),
        yes=yes,
        dry_run=dry_run,
    )


def undo_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_stream)] = "",
    anybody: Annotated[bool, typer.Option("--anybody", help="also if somebody else made the change")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Revert your last change, or the last one of a stream by anybody, unless it was changed again since."""
    session: Session = context.obj
    if name or anybody:
        session.limits.notice_others(session.limits.snapshot())
    entries = last_entries(session.limits.audit(), name, "" if name or anybody else session.limits.who)
    if not entries:
        whose = f"of {quoted(name)}" if name else "by anybody" if anybody else f"by {session.limits.who}"
        raise FpsctlError(
            f"the audit has no change {whose}" + ("" if name or anybody else ": --anybody takes the last of all")
        )
    session.report.note(f"{sentence(entries[0])}{_and_more(len(entries))}, {ago(entries[0].at, session.now())}")

    def plan() -> Plan:
        return undo(entries, session.limits.of(entry.change.name for entry in entries))

    carry_out(session, plan, asks=len(entries) > 1, yes=yes, dry_run=dry_run)


def _carry_out_for(
    session: Session,
    names: Iterable[str],
    make: Callable[[Snapshot], Plan],
    *,
    asks: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    carry_out(session, lambda: make(session.limits.of(names)), asks=asks, yes=yes, dry_run=dry_run)


def _names(session: Session, given: list[str], *, yes: bool) -> list[str]:
    """Returns the streams that are meant, with each glob replaced by those that it matches at present.

    Args:
        session: the run.
        given: names and globs.
        yes: whether a name that no stream has is taken without a question.

    Raises:
        FpsctlError: a glob matches nothing, or a name was mistyped.
    """
    plain = [name for name in given if not is_glob(name)]
    if len(plain) == len(given) and (yes or plain == [WILDCARD]):
        return list(dict.fromkeys(plain))
    limits = session.limits.snapshot() if len(plain) < len(given) else session.limits.of(plain)
    own = limits.limits.keys() | limits.boosts.keys()
    streams = session.streams()
    names: list[str] = []
    for text in given:
        if is_glob(text):
            matched = matching(text, streams | own)
            if not matched:
                raise FpsctlError(f"no stream matches {quoted(text)} at present; set --pattern is for those to come")
            names += matched
            continue
        if text not in own and (remark := session.unknown(text, streams)):
            if "meant?" in remark and session.report.asks and not session.report.confirmed(f"{remark} Set it anyway?"):
                raise FpsctlError("nothing was changed")
            session.report.note(remark)
        names.append(text)
    return list(dict.fromkeys(names))


def _fps(text: str) -> float:
    try:
        return fps_of(text)
    except FpsError as error:
        raise FpsctlError(str(error), WRONG_USAGE) from None


def _and_more(number: int) -> str:
    return f" and {number - 1} more" if number > 1 else ""
