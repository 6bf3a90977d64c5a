"""Carries out a plan: shows it, asks, changes the limits, and says what was done."""

from __future__ import annotations

from collections.abc import Callable

from console.control.changes import Change, Kind, Snapshot
from console.control.plan import Plan, ended_boosts
from console.control.store import ConflictError
from console.fpsctl.columns import Column
from console.fpsctl.report import FpsctlError, Report, listed
from console.fpsctl.session import Session
from console.fpsctl.show import rows

TRIES = 3
"""How often a plan is made again when somebody else changes a limit at the same moment."""

_HEAD = (Column("", flexible=True), Column("NOW", right=True), Column(""), Column("THEN"))


def carry_out(
    session: Session, make: Callable[[], Plan], *, asks: bool = False, yes: bool = False, dry_run: bool = False
) -> None:
    """Carries out a plan, or refuses to if a part of it is refused.

    Args:
        session: the run.
        make: reads the limits and makes the plan; called again if somebody else changes one of them meanwhile.
        asks: whether the plan is shown, and a person is asked, before anything is changed.
        yes: whether the answer is known.
        dry_run: whether the plan is shown and nothing is changed.

    Raises:
        FpsctlError: a part is refused, the answer was no, or others kept changing the limits; it says if anything was changed.
    """
    report = session.report
    plan = make()
    _refuse(plan)
    if plan.changes and (dry_run or (asks and not yes)):
        report.table(_HEAD, rows(plan.changes, session.now()))
        if dry_run:
            report.line(f"{len(plan.changes)} change{'' if len(plan.changes) == 1 else 's'}, none made")
            return
        if not report.confirmed(f"change these {len(plan.changes)}?"):
            raise FpsctlError("nothing was changed")
    if dry_run:
        _remark(report, plan)
        return
    agreed = plan.changes
    for _ in range(TRIES):
        try:
            session.limits.apply([*plan.changes, *_ended(session, plan)] if plan.changes else ())
        except ConflictError as error:
            if error.made:
                raise FpsctlError(
                    f"only {error.made} of {len(plan.changes)} changes were made, because somebody else changed "
                    f"{listed(error.names)} at the same moment: run it again for the rest"
                ) from None
            plan = make()
            _refuse(plan)
            if asks and plan.changes != agreed:
                raise FpsctlError(
                    f"nothing was changed, because somebody else changed {listed(error.names)} at the same moment"
                ) from None
        else:
            break
    else:
        raise FpsctlError("nothing was changed, because others keep changing these limits: try again")
    now = session.now()
    for name, old, arrow, new in rows(plan.changes, now):
        report.line(f"{name}: {old} {arrow} {new}")
    _remark(report, plan)


def _remark(report: Report, plan: Plan) -> None:
    for note in plan.notes:
        report.note(note)
    if not plan.changes and not plan.notes:
        report.note("nothing to change")


def _refuse(plan: Plan) -> None:
    if plan.refusals:
        more = f" (and {len(plan.refusals) - 3} more)" if len(plan.refusals) > 3 else ""
        raise FpsctlError("; ".join(plan.refusals[:3]) + more)


def _ended(session: Session, plan: Plan) -> list[Change]:
    """Returns the removals of boosts that have ended, of which the limits get rid with this change."""
    if all(change.kind is not Kind.BOOST for change in plan.changes):
        return []
    touched = {(change.kind, change.name) for change in plan.changes}
    ended = ended_boosts(Snapshot(boosts=session.limits.values(Kind.BOOST)), session.now())
    return [change for change in ended if (change.kind, change.name) not in touched]
