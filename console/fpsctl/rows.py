"""What is known about a stream, from all sides, as one row of plain values. Pure."""

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from console.control.changes import Snapshot
from console.control.names import rough_look
from console.control.rule import InForce, Source, in_force
from console.control.states import Signs, State, state_of


@dataclass(frozen=True)
class Paced:
    """What one sidecar says about a stream."""

    fps: float
    source: str
    """A word of :class:`console.control.rule.Source`, or one that a newer sidecar knows."""
    admitted: int
    denied: int
    admitted_fps: float
    source_fps: float
    """Of the camera, told by a publisher; 0: not told."""
    invalid: str
    last_reason: str
    stale: bool
    last_ts: float
    next_ts: float
    unread: bool


@dataclass(frozen=True)
class Row:
    """One stream."""

    name: str
    state: State
    limit: float | None
    """In force, frames per second; None: not known."""
    source: str
    """Where the limit comes from, see :class:`console.control.rule.Source`."""
    pattern: str | None
    """The pattern, if the limit comes from one and it is known."""
    until: float | None
    """The end of a boost, Unix seconds."""
    invalid: str
    """The value in Redis that is ignored because it isn't a valid fps."""
    source_fps: float | None
    """Of the camera, frames per second; None: not known. Likewise the following."""
    admitted_fps: float | None
    counted_fps: float | None
    admitted: int
    denied: int
    """By the sidecars."""
    counted: int
    skipped: int
    """By the workers."""
    dead: int
    skips: dict[str, int]
    """Skipped frames by reason, the most frequent first."""
    last_skip: str
    """The reason of the last skipped frame, or of the last denial."""
    hands: int | None
    age: float | None
    """How long ago the newest frame came, seconds."""
    camera: str
    """The error of a camera that its publisher can't read."""
    camera_state: str
    """What its publisher says: starting, working, lost, ended or stopped; empty: nothing, or nothing for a minute."""


def row(
    name: str,
    limits: Snapshot | None,
    now: float,
    *,
    default: float | None,
    paced: Sequence[Paced] = (),
    counted: Mapping[str, str] | None = None,
    camera: Mapping[str, str] | None = None,
) -> Row:
    """Returns the row of a stream.

    Args:
        name: the stream.
        limits: what Redis says about its limit; None if this user may not read it, so that only the sidecars know it.
        now: Unix seconds by Redis' clock.
        default: the sidecars' --fps; None if it isn't known.
        paced: what each sidecar says that has the stream.
        counted: its hash in Redis, by the workers; None if there is none.
        camera: the hash of its camera, by the publisher; None if there is none.
    """
    hashed, publisher = counted or {}, camera or {}
    force = _told(paced) if limits is None else in_force(name, limits, now, default)
    heard_at = number(hashed.get("heard_at"))
    told = [each.source_fps for each in paced if each.source_fps] + [number(publisher.get("source_fps"))]
    source_fps = max(told) or number(hashed.get("source_fps"))
    fps = paced[0].fps if paced and force.fps is None else force.fps
    signs = Signs(
        fps,
        now,
        heard_at=heard_at,
        counted_at=number(hashed.get("counted_at")),
        admitted=int(number(hashed.get("admitted"))),
        counted=int(number(hashed.get("counted"))),
        decided=any(each.admitted or each.denied for each in paced),
        reported_fps=max(told),
        reported_since=number(publisher.get("since")) if publisher.get("state") == "working" else 0.0,
        lost=publisher.get("state") == "lost",
    )
    state = state_of(signs)
    # The rate of a hash that nobody writes any more is that of the past.
    counts = state not in (State.SILENT, State.BEHIND)
    counted_fps = number(hashed.get("counted_fps")) * counts if counted else None
    admitted_fps = sum(each.admitted_fps for each in paced) if paced else None
    age = max(0.0, now - heard_at) if heard_at else None
    denial = next((each.last_reason.lower() for each in paced if each.last_reason not in ("", "ADMITTED")), "")
    return Row(
        name=name,
        state=state,
        limit=fps,
        source=force.source,
        pattern=force.by or None,
        until=force.until,
        invalid=force.invalid or next((each.invalid for each in paced if each.invalid), ""),
        source_fps=source_fps if paced or counted or camera else None,
        admitted_fps=admitted_fps,
        counted_fps=counted_fps,
        admitted=sum(each.admitted for each in paced) or int(number(hashed.get("admitted"))),
        denied=sum(each.denied for each in paced),
        counted=int(number(hashed.get("counted"))),
        skipped=int(number(hashed.get("skipped"))),
        dead=int(number(hashed.get("dead"))),
        skips=_skips(hashed),
        last_skip=hashed.get("last_skip", "") or denial,
        hands=int(number(hashed["hand_count"])) if "hand_count" in hashed else None,
        age=age,
        camera=publisher.get("error", "") if publisher.get("state") == "lost" else "",
        camera_state=publisher.get("state", ""),
    )


def _skips(hashed: Mapping[str, str]) -> dict[str, int]:
    """Returns the skipped frames by reason, the most frequent first."""
    found = {
        name.partition(":")[2]: int(number(value)) for name, value in hashed.items() if name.startswith("skipped:")
    }
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _told(paced: Sequence[Paced]) -> InForce:
    """Returns the limit that the sidecars say is in force."""
    if not paced or paced[0].source not in frozenset(Source):
        return InForce(paced[0].fps if paced else None, Source.DEFAULT)
    return InForce(paced[0].fps, Source(paced[0].source))


class SortKey(enum.StrEnum):
    """By what rows are sorted."""

    NAME = "name"
    STATE = "state"
    LIMIT = "limit"
    SOURCE = "source"
    """The camera's rate."""
    ADMITTED = "admitted"
    COUNTED = "counted"
    HANDS = "hands"
    AGE = "age"


_URGENCY: Final = {state: place for place, state in enumerate((State.LOST, State.SILENT, State.BEHIND, State.PAUSED))}


def ordered(rows: Iterable[Row], key: SortKey, *, reverse: bool = False) -> list[Row]:
    """Returns rows in order: by state the most urgent first, by numbers the largest first, unknown ones last; then by name."""
    signed: dict[SortKey, Any] = {
        SortKey.NAME: lambda _: 0.0,
        SortKey.STATE: lambda each: _URGENCY.get(each.state, 9),
        SortKey.LIMIT: lambda each: _down(each.limit),
        SortKey.SOURCE: lambda each: _down(each.source_fps),
        SortKey.ADMITTED: lambda each: _down(each.admitted_fps),
        SortKey.COUNTED: lambda each: _down(each.counted_fps),
        SortKey.HANDS: lambda each: _down(each.hands),
        SortKey.AGE: lambda each: _down(each.age),
    }
    found = sorted(sorted(rows, key=lambda each: each.name), key=signed[key])
    return found[::-1] if reverse else found


def filtered(rows: Iterable[Row], text: str) -> list[Row]:
    """Returns the rows whose name contains a text, or looks as if it did, or whose state it is."""
    rough = rough_look(text)
    return [
        each for each in rows if text in each.name or (rough and rough in rough_look(each.name)) or each.state == text
    ]


def number(text: str | None) -> float:
    """Returns a number that a hash in Redis contains; 0 for what is none, or none that a rate or a count may be."""
    try:
        value = float(text or 0.0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value >= 0.0 else 0.0


def _down(value: float | None) -> float:
    return math.inf if value is None else -value
