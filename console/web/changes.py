"""Changes of limits that the page asks for: what each would do, what to warn of, and the change itself with its audit.

One change is made at a time, in a thread, since :mod:`console.control` waits for Redis. The feed isn't asked to hurry: Redis
pushes the change to it as it pushes anybody's.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis

from console.control import documents, plan, undo
from console.control.changes import AuditEntry, Change, Kind, Snapshot
from console.control.connection import Client
from console.control.failures import failure_in_words
from console.control.keys import ControlKeys
from console.control.names import quoted
from console.control.rule import format_fps
from console.control.store import ConflictError, LimitsControl
from console.web.demands import Demands

TOOL: Final = "console"
LOOKED_BACK: Final = 2000
"""Entries of the audit among which the last change is looked for."""
MOST_NAMES: Final = 5000
MOST_SECONDS: Final = 7 * 86400.0


class RefusedError(Exception):
    """A change that isn't made; the text says why.

    Attributes:
        warning: whether it is made if it is asked for again, confirmed.
    """

    def __init__(self, reason: str, *, warning: bool = False) -> None:
        super().__init__(reason)
        self.warning = warning


class Changes:
    """Makes changes, and reads the audit."""

    def __init__(self, connect: Callable[[], Client], keys: ControlKeys) -> None:
        """Takes what connects to Redis, at the first change, and the keys of the limits."""
        self._connect = connect
        self._client: Client | None = None
        self._keys = keys
        self._one_at_a_time = asyncio.Lock()

    async def make(self, asked: Mapping[str, Any], who: str, demands: Demands) -> dict[str, object]:
        """Makes the change that a request asks for.

        Args:
            asked: The JSON of the request: ``action`` and what that needs; ``dry_run``: only say what would be done;
                ``confirmed``: somebody has read the warning.
            who: For the audit.
            demands: What the limits ask of the workers now.

        Returns:
            The changes and notes about them, as JSON.

        Raises:
            RefusedError: Nothing was changed.
        """
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._make, asked, who, demands)

    async def audit(self, most: int) -> list[dict[str, object]]:
        """Returns the newest entries of the audit as JSON. Raises RefusedError if Redis can't be read."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._audit, most)

    async def notice_others(self) -> None:
        """Notes in the audit what was changed by no tool of this project. Raises redis.RedisError."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._notice_others)

    def close(self) -> None:
        """Closes the connection."""
        if self._client is not None:
            self._client.close()

    def _control(self, who: str) -> LimitsControl:
        if self._client is None:
            self._client = self._connect()
        return LimitsControl(self._client, self._keys, who=who, tool=TOOL)

    def _notice_others(self) -> None:
        control = self._control("")
        control.notice_others(control.snapshot())

    def _audit(self, most: int) -> list[dict[str, object]]:
        try:
            return [_entry(entry) for entry in self._control("").audit(most)]
        except redis.RedisError as error:
            raise RefusedError(failure_in_words(error)[0]) from error

    def _make(self, asked: Mapping[str, Any], who: str, demands: Demands) -> dict[str, object]:
        control = self._control(who)
        try:
            planned, snapshot = _plan(asked, control)
            if planned.refusals:
                raise RefusedError("; ".join(planned.refusals[:3]))
            warning = demands.warning(snapshot, planned.changes)
            if warning and not asked.get("confirmed") and not asked.get("dry_run"):
                raise RefusedError(warning, warning=True)
            if not asked.get("dry_run"):
                control.apply(planned.changes)
        except ConflictError as error:
            made = f", after {error.made} changes were made" if error.made else ""
            raise RefusedError(
                f"{quoted(error.names[0])} was changed by somebody else just now{made}: look again"
            ) from error
        except redis.RedisError as error:
            raise RefusedError(failure_in_words(error)[0]) from error
        # What is said to users of the command line after a semicolon names its flags.
        notes = [note.partition("; --")[0] for note in planned.notes]
        return {"changes": [_change(each) for each in planned.changes], "notes": notes, "warning": warning}


def _plan(asked: Mapping[str, Any], control: LimitsControl) -> tuple[plan.Plan, Snapshot]:
    """Returns what a request asks for, and the limits as they are. Raises RefusedError if it isn't a valid request."""
    action = asked.get("action")
    if action == "undo":
        name = _text(asked, "name", "")
        control.notice_others(control.snapshot())
        entries = undo.last_entries(control.audit(LOOKED_BACK), name, "" if name else _text(asked, "by", ""))
        snapshot = control.snapshot()
        return undo.undo(entries, snapshot), snapshot
    snapshot = control.snapshot()
    if action == "pattern":
        fps = None if asked.get("fps") is None else _fps(asked)
        return plan.set_pattern(_text(asked, "name"), fps, snapshot), snapshot
    if action == "remove":
        return _remove(_text(asked, "kind"), _text(asked, "name"), snapshot), snapshot
    if action == "import":
        return _import(asked, snapshot), snapshot
    names = asked.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MOST_NAMES:
        raise RefusedError(f"expected the names of up to {MOST_NAMES} streams")
    if action == "set":
        end_boost = bool(asked.get("end_boost"))
        return plan.set_limits(names, _fps(asked), snapshot, control.now(), end_boost=end_boost), snapshot
    if action == "pause":
        return plan.pause(names, snapshot), snapshot
    if action == "resume":
        control.notice_others(snapshot)  # a pause by another tool
        former = undo.former_values(names, control.audit(LOOKED_BACK))
        return plan.resume(names, former, snapshot, control.now()), snapshot
    if action == "reset":
        return plan.reset(names, snapshot), snapshot
    if action == "boost":
        return plan.boost(names, _fps(asked), control.now() + _seconds(asked), snapshot), snapshot
    if action == "end_boost":
        return plan.end_boosts(names, snapshot), snapshot
    raise RefusedError("there is no such action")


def _remove(kind: str, name: str, snapshot: Snapshot) -> plan.Plan:
    """Returns the plan to remove a field as it is, whatever its name: to mend what no tool would have written."""
    if kind not in frozenset(Kind):
        raise RefusedError("there is no such kind of limit")
    old = snapshot.value(Kind(kind), name)
    if not old and name not in snapshot.of(Kind(kind)):
        return plan.Plan(refusals=(f"{quoted(name)} isn't there any more",))
    return plan.Plan((Change(Kind(kind), name, old, ""),))


def _import(asked: Mapping[str, Any], snapshot: Snapshot) -> plan.Plan:
    read = {"yaml": documents.from_yaml, "csv": documents.from_csv}.get(_text(asked, "format"))
    if read is None:
        raise RefusedError("expected yaml or csv")
    try:
        document = read(_text(asked, "text"))
    except documents.DocumentError as error:
        raise RefusedError(str(error)) from error
    return plan.Plan(documents.difference(snapshot, document, replace=bool(asked.get("replace"))))


def _text(asked: Mapping[str, Any], field: str, default: str | None = None) -> str:
    value = asked.get(field, default)
    if not isinstance(value, str):
        raise RefusedError(f"expected a text as {field}")
    return value


def _fps(asked: Mapping[str, Any]) -> float:
    """Returns the fps of a request, as people write it: a number or a text."""
    value = asked.get("fps")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RefusedError("expected frames per second")
    try:
        return plan.fps_of(value if isinstance(value, str) else format_fps(float(value)))
    except (ValueError, OverflowError) as error:
        raise RefusedError(str(error)) from error


def _seconds(asked: Mapping[str, Any]) -> float:
    value = asked.get("seconds")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1.0 <= value <= MOST_SECONDS:
        raise RefusedError(f"a boost lasts from a second to {MOST_SECONDS / 86400:g} days")
    return float(value)


def _change(change: Change) -> dict[str, object]:
    return {"kind": change.kind.value, "name": change.name, "old": change.old, "new": change.new}


def _entry(entry: AuditEntry) -> dict[str, object]:
    return {"at": entry.at, "who": entry.who, "tool": entry.tool, "batch": entry.batch, **_change(entry.change)}
