"""Reads the limits and changes them, each change with an entry in the audit."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import islice
from typing import Any, Final, TypeVar

import redis

from console.control.changes import (
    OTHER_TOOL,
    AuditEntry,
    Change,
    Kind,
    Snapshot,
    differences,
    entry_of,
    is_ended_boost,
    raw,
)
from console.control.connection import Client
from console.control.keys import AUDIT_LENGTH, ControlKeys
from console.control.rule import WILDCARD, parse_boost
from process.redis_failures import failure_code

PAGE: Final = 1000
MOST_AT_ONCE: Final = 5000
"""How many changes one script makes, so that it blocks Redis for some 10 ms at most; more aren't made in one step."""
MOST_NOTICED: Final = 1000
"""How many changes by others are noted one by one; of more, the audit would keep nothing else."""

_Item = TypeVar("_Item")

_LOOKED: Final = "looked"
"""A field of the hash of what was seen: everything was looked at once."""
_NOTICE: Final = resources.files(__package__).joinpath("notice.lua").read_text()
_APPLY: Final = resources.files(__package__).joinpath("apply.lua").read_text()


class ConflictError(Exception):
    """Somebody else changed a limit between its reading and its change, so it and those in one step with it weren't changed.

    Attributes:
        names: whose limits differ from what was read.
        made: how many changes had been made before, in other steps.
    """

    def __init__(self, names: Sequence[str], made: int = 0) -> None:
        super().__init__(f"{len(names)} limits were changed by somebody else at the same moment")
        self.names = tuple(names)
        self.made = made


class LimitsControl:
    """The limits in one Redis. Every method may raise redis.RedisError. For one thread at a time."""

    def __init__(self, client: Client, keys: ControlKeys, *, who: str, tool: str) -> None:
        """Takes a client made by :func:`console.control.connection.connect`, and what the audit says about changes.

        Args:
            client: of the Redis with the limits; the caller closes it.
            keys: of the limits.
            who: USER@HOST, or the login of a person.
            tool: the program.
        """
        self._client: Any = client
        self._keys = keys
        self._who = who
        self._tool = tool
        self._on_one_server = not isinstance(client, redis.RedisCluster)
        self._unread: set[Kind] = set()

    @property
    def keys(self) -> ControlKeys:
        """The keys of the limits."""
        return self._keys

    @property
    def who(self) -> str:
        """Who the audit says makes the changes."""
        return self._who

    def now(self) -> float:
        """Returns the time by Redis' clock, Unix seconds."""
        where = {} if self._on_one_server else {"target_nodes": redis.RedisCluster.RANDOM}
        seconds, microseconds = self._client.execute_command("TIME", **where)
        return float(seconds) + float(microseconds) / 1e6

    def snapshot(self) -> Snapshot:
        """Returns all limits, read a page at a time."""
        return self._read(dict.fromkeys(Kind))

    def values(self, kind: Kind) -> Mapping[str, str]:
        """Returns all values of one kind, by name."""
        return self._read({kind: None}).of(kind)

    def of(self, names: Iterable[str]) -> Snapshot:
        """Returns what says which limit some streams have: their fields, ``*``, and all patterns and boosts."""
        wanted = list(dict.fromkeys([*names, WILDCARD]))
        # Of boosts all, since a large number of them takes some out of force.
        return self._read({Kind.LIMIT: wanted, Kind.PATTERN: None, Kind.BOOST: None})

    @property
    def problems(self) -> list[str]:
        """What could not be read the last time, and what to do about it, for people."""
        return [
            f"{self._keys.hash_of(kind)} isn't a hash, so no {kind} is in force: look at it, then delete or rename it"
            for kind in sorted(self._unread)
        ]

    def apply(self, changes: Sequence[Change]) -> None:
        """Makes changes, all or none of up to :data:`MOST_AT_ONCE`, and notes them in the audit as made together.

        On one server a change and its entry are one step. In a cluster they lie on different nodes: the changes of each
        kind are one step, and their entries follow.

        Raises:
            ConflictError: a limit isn't what the change says it was; of its step nothing is changed.
        """
        batch = secrets.token_hex(4)
        made = 0
        try:
            for part in _parts(changes, MOST_AT_ONCE):
                if self._on_one_server:
                    hashes = [self._keys.hash_of(kind) for kind in Kind]
                    self._run(part, hashes, [self._keys.audit, self._keys.seen], batch)
                    made += len(part)
                    continue
                for kind in Kind:
                    if of_kind := [change for change in part if change.kind is kind]:
                        self._run(of_kind, [self._keys.hash_of(kind)], [], batch)
                        made += len(of_kind)
                        self._note(self._made_by_others(of_kind), "", OTHER_TOOL, "")
                        self._note(of_kind, self._who, self._tool, batch)
        except ConflictError as error:
            raise ConflictError(error.names, made) from None

    def audit(self, most: int | None = None) -> Iterator[AuditEntry]:
        """Yields the entries of the audit, the newest first, read a page at a time."""
        last, left = "+", most
        while left is None or left > 0:
            count = PAGE if left is None else min(PAGE, left)
            page = self._client.xrevrange(self._keys.audit, max=last, min="-", count=count)
            if not page:
                return
            for entry_id, fields in page:
                if entry := entry_of(entry_id, fields):
                    yield entry
            last = f"({page[-1][0]}"
            left = None if left is None else left - len(page)

    def notice_others(self, snapshot: Snapshot) -> list[Change]:
        """Notes in the audit what no tool of this project has changed since one last looked; returns these changes.

        The first look notes nothing, since everything would be new.

        Args:
            snapshot: all limits, just read.
        """
        kept = self._all(self._keys.seen)
        seen: dict[tuple[Kind, str], str] = {}
        for field, value in kept.items():
            kind, blank, name = field.partition(" ")
            if blank and kind in frozenset(Kind):
                seen[Kind(kind), name] = value
        changes, noted = differences(seen, snapshot), set()
        if _LOOKED in kept:
            now = self.now()
            noted = {change for change in changes if not is_ended_boost(change, now)}
        to_note = set(sorted(noted)[:MOST_NOTICED])
        for part in _parts(changes, MOST_AT_ONCE):
            self._remember(part, to_note)
        if not changes and _LOOKED not in kept:
            self._remember([], set())
        return [change for change in changes if change in noted]

    def _remember(self, changes: Sequence[Change], to_note: set[Change]) -> None:
        """Remembers what is seen now, and notes some of it in the audit."""
        if not self._on_one_server:
            for change in changes:
                if change in to_note:
                    self._note([change], "", OTHER_TOOL, "")
            with self._client.pipeline(transaction=False) as pipeline:
                for change in changes:
                    _see(pipeline, self._keys.seen, change)
                pipeline.hset(self._keys.seen, _LOOKED, "1")
                pipeline.execute()
            return
        kinds = list(Kind)
        words: list[object] = [AUDIT_LENGTH, OTHER_TOOL]
        for change in changes:
            words += [kinds.index(change.kind) + 1, *map(raw, change), int(change in to_note)]
        keys = [*map(self._keys.hash_of, kinds), self._keys.audit, self._keys.seen]
        self._client.eval(_NOTICE, len(keys), *keys, *words)

    def _made_by_others(self, changes: Sequence[Change]) -> list[Change]:
        """Returns what others had changed, since a tool last looked, in the fields that are changed now."""
        fields = [f"{change.kind} {change.name}" for change in changes]
        seen = self._some(self._keys.seen, [_LOOKED, *fields])
        if _LOOKED not in seen:
            return []
        pairs = ((change, seen.get(field, "")) for change, field in zip(changes, fields, strict=True))
        return [
            Change(change.kind, change.name, before, change.old)
            for change, before in pairs
            if before != change.old and not (change.kind is Kind.BOOST and not change.old)
        ]

    def _run(self, changes: Sequence[Change], hashes: Sequence[str], notes: Sequence[str], batch: str) -> None:
        """Runs the script that changes limits."""
        words: list[object] = [len(hashes), AUDIT_LENGTH, raw(self._who), self._tool, batch]
        for change in changes:
            index = hashes.index(self._keys.hash_of(change.kind)) + 1
            words += [index, *map(raw, change), _until(change)]
        keys = [*hashes, *notes]
        # EVAL rather than EVALSHA: a person's changes are rare, and it needs one permission less.
        differing: list[str] = self._client.eval(_APPLY, len(keys), *keys, *words)
        if differing:
            raise ConflictError(differing)

    def _note(self, changes: Sequence[Change], who: str, tool: str, batch: str) -> None:
        """Adds entries to the audit and remembers the values, without a change of the limits themselves."""
        with self._client.pipeline(transaction=False) as pipeline:
            for change in changes:
                entry = dict(zip(("kind", "name", "old", "new"), map(raw, change), strict=True))
                entry |= {"who": raw(who), "tool": raw(tool), "until": raw(_until(change)), "batch": raw(batch)}
                pipeline.xadd(self._keys.audit, entry, maxlen=AUDIT_LENGTH, approximate=True)
                _see(pipeline, self._keys.seen, change)
            pipeline.execute()

    def _read(self, wanted: Mapping[Kind, Sequence[str] | None]) -> Snapshot:
        """Reads some fields of each kind, or all where None. A key that isn't a hash is noted, and the others are read."""
        found: dict[Kind, Mapping[str, str]] = {}
        for kind, names in wanted.items():
            key = self._keys.hash_of(kind)
            self._unread.discard(kind)
            try:
                found[kind] = self._all(key) if names is None else self._some(key, names)
            except redis.ResponseError as error:
                if failure_code(error) != "WRONGTYPE":
                    raise
                self._unread.add(kind)
        return Snapshot(*(found.get(kind, {}) for kind in Kind), unread=frozenset(self._unread & wanted.keys()))

    def _all(self, key: str) -> dict[str, str]:
        found: dict[str, str] = {}
        cursor = 0
        while True:
            cursor, page = self._client.hscan(key, cursor, count=PAGE)
            found |= page
            if cursor == 0:
                return found

    def _some(self, key: str, names: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for part in _parts(names, PAGE):
            values = self._client.hmget(key, list(map(raw, part)))
            found |= {name: value for name, value in zip(part, values, strict=True) if value is not None}
        return found


def _see(pipeline: Any, key: str, change: Change) -> None:
    field = raw(f"{change.kind} {change.name}")
    if change.new:
        pipeline.hset(key, field, raw(change.new))
    else:
        pipeline.hdel(key, field)


def _parts(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yields the items in lists of at most this size."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def _until(change: Change) -> str:
    boost = parse_boost(change.new) if change.kind is Kind.BOOST else None
    return f"{boost.until:.3f}" if boost else ""
