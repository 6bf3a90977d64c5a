"""A change of a limit, and its entry in the audit. Pure."""

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from handcounter.pacing.limits import MAX_BOOSTS, MAX_PATTERNS, Boost, in_text_order, parse_boost, parse_fps
from handcounter.pacing.patterns import Patterns, pattern_error
from handcounter.pacing.schedule import stream_name_error

OTHER_TOOL: Final = "other"
"""The tool of an entry about a change that was noticed afterwards, because no tool of this project made it."""


class Kind(enum.StrEnum):
    """What is changed."""

    LIMIT = "limit"
    """A field of the hash of limits: of one stream, or ``*``."""
    PATTERN = "pattern"
    BOOST = "boost"


class Change(NamedTuple):
    """One field of one hash gets another value."""

    kind: Kind
    name: str
    """The stream, the pattern, or ``*``."""
    old: str
    """The value in Redis before; empty: there was none."""
    new: str
    """The value after; empty: there is none."""


class AuditEntry(NamedTuple):
    """A change that was made."""

    entry_id: str
    """MILLISECONDS-NUMBER, by Redis' clock."""
    change: Change
    who: str
    """Who made it, USER@HOST or a login; empty if that isn't known."""
    tool: str
    """By which tool; :data:`OTHER_TOOL` if by none of this project."""
    until: float | None = None
    """The end of a boost, Unix seconds."""
    batch: str = ""
    """The same for all changes that were made together."""

    @property
    def at(self) -> float:
        """When it was made, or noticed if the tool is :data:`OTHER_TOOL`; Unix seconds by Redis' clock."""
        return int(self.entry_id.partition("-")[0]) / 1000.0


@dataclass(frozen=True)
class Snapshot:
    """The limits in Redis at one time, or a part of them: for each kind the values by name, as they are in Redis."""

    limits: Mapping[str, str] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)
    boosts: Mapping[str, str] = field(default_factory=dict)
    unread: frozenset[Kind] = field(default=frozenset(), kw_only=True)
    """The kinds whose key isn't a hash, so that nothing of them could be read, and nothing of them is in force."""

    @functools.cached_property
    def patterns_in_force(self) -> Patterns:
        """The limits by pattern that the sidecars apply, as far as Redis alone tells."""
        named = ((name, text) for name, text in self.patterns.items() if _is_utf8(name) and pattern_error(name) is None)
        valid = ((name, parse_fps(raw(text))) for name, text in named)
        return Patterns(in_text_order({name: fps for name, fps in valid if fps is not None}, MAX_PATTERNS))

    @functools.cached_property
    def boosts_in_force(self) -> Mapping[str, Boost]:
        """The boosts that the sidecars apply until they end, as far as Redis alone tells."""
        named = (
            (name, text) for name, text in self.boosts.items() if _is_utf8(name) and stream_name_error(name) is None
        )
        valid = ((name, parse_boost(raw(text))) for name, text in named)
        return in_text_order({name: boost for name, boost in valid if boost is not None}, MAX_BOOSTS)

    def of(self, kind: Kind) -> Mapping[str, str]:
        """Returns the values of a kind."""
        return {Kind.LIMIT: self.limits, Kind.PATTERN: self.patterns, Kind.BOOST: self.boosts}[kind]

    def value(self, kind: Kind, name: str) -> str:
        """Returns a value; empty if there is none."""
        return self.of(kind).get(name, "")


def entry_of(entry_id: str, fields: Mapping[str, str]) -> AuditEntry | None:
    """Returns what an entry of the audit says; None if it isn't one."""
    try:
        kind = Kind(fields.get("kind", ""))
        int(entry_id.partition("-")[0])
    except ValueError:
        return None
    try:
        until = float(fields["until"]) if fields.get("until") else None
    except ValueError:
        until = None
    change = Change(kind, fields.get("name", ""), fields.get("old", ""), fields.get("new", ""))
    return AuditEntry(entry_id, change, fields.get("who", ""), fields.get("tool", ""), until, fields.get("batch", ""))


def differences(seen: Mapping[tuple[Kind, str], str], snapshot: Snapshot) -> list[Change]:
    """Returns what differs from what was seen before, kind by kind, in the order of the names."""
    found: list[Change] = []
    for kind in Kind:
        if kind in snapshot.unread:
            continue  # what can't be read hasn't been removed
        values = snapshot.of(kind)
        before = {name: value for (of, name), value in seen.items() if of is kind}
        pairs = (Change(kind, name, before.get(name, ""), values.get(name, "")) for name in sorted({*values, *before}))
        found += [change for change in pairs if change.old != change.new]
    return found


def is_ended_boost(change: Change, now: float) -> bool:
    """Returns whether a change only removes a boost that has ended, which anybody may do; ``now`` in Unix seconds."""
    _, _, until = change.old.partition(" ")
    try:
        return change.kind is Kind.BOOST and not change.new and float(until) <= now
    except ValueError:
        return False


def raw(text: str) -> bytes:
    """Returns the bytes of a text that Redis sent, also of one that isn't UTF-8."""
    return text.encode(errors="surrogateescape")


def _is_utf8(text: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in text)
