"""What reverts earlier changes, by the audit. Pure."""

from collections.abc import Iterable

from console.control.changes import OTHER_TOOL, AuditEntry, Change, Kind, Snapshot, is_ended_boost
from console.control.durations import show_time
from console.control.names import quoted
from console.control.plan import Plan
from console.control.rule import format_fps, parse_boost, parse_fps


def last_entries(newest_first: Iterable[AuditEntry], name: str = "", who: str = "") -> tuple[AuditEntry, ...]:
    """Returns the entries of the last change: all that were made together, in the order in which they were made.

    The removal of a boost that had ended isn't one: it is made along with any change of boosts, and changes no limit.

    Args:
        newest_first: the audit.
        name: only changes of this stream or pattern; empty: of all.
        who: only changes by this person, and none that were only noticed; empty: by anybody.
    """
    found: list[AuditEntry] = []
    for entry in newest_first:
        if found and (not entry.batch or entry.batch != found[0].batch):
            break
        fits = (not name or entry.change.name == name) and not is_ended_boost(entry.change, entry.at)
        if fits and (not who or (entry.who == who and entry.tool != OTHER_TOOL)):
            found.append(entry)
    return tuple(reversed(found))


def undo(entries: tuple[AuditEntry, ...], snapshot: Snapshot) -> Plan:
    """Returns the plan that reverts changes which were made together.

    Args:
        entries: the changes, as :func:`last_entries` returns them.
        snapshot: at least the fields that they changed.

    Returns:
        The changes back to the values before; all of them refused if anybody has changed one of the fields since.
    """
    if not entries:
        return Plan(refusals=("there is no such change in the audit",))
    refusals = [
        f"{entry.change.kind} {quoted(entry.change.name)} was changed again: it is {_words(entry.change.kind, now)} now, "
        f"not {_words(entry.change.kind, entry.change.new)}"
        for entry in entries
        if (now := snapshot.value(entry.change.kind, entry.change.name)) != entry.change.new
    ]
    if refusals:
        return Plan(refusals=tuple(refusals))
    back = (Change(each.change.kind, each.change.name, each.change.new, each.change.old) for each in reversed(entries))
    return Plan(tuple(back))


def former_values(names: Iterable[str], newest_first: Iterable[AuditEntry]) -> dict[str, str]:
    """Returns what the own limits of streams were before they were paused; streams that the audit doesn't tell are absent.

    Args:
        names: streams that are paused.
        newest_first: the audit. If its last entry of a stream isn't a pause, it doesn't tell of the present one.
    """
    wanted = set(names)
    found: dict[str, str] = {}
    for entry in newest_first:
        if not wanted:
            break
        kind, name, old, new = entry.change
        if kind is not Kind.LIMIT or name not in wanted:
            continue
        if parse_fps(new) != 0.0:
            wanted.discard(name)
        elif parse_fps(old) != 0.0:
            found[name] = old
            wanted.discard(name)
    return found


def _words(kind: Kind, value: str) -> str:
    boost = parse_boost(value) if kind is Kind.BOOST else None
    if boost is None:
        return quoted(value) if value else "absent"
    return f"{format_fps(boost.fps)} until {show_time(boost.until)}"
