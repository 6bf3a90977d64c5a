"""Everything that is known about all streams, read again and again."""

from __future__ import annotations

from dataclasses import dataclass, field

import redis

from console.control.capacity import asked_fps
from console.control.failures import failure_in_words
from console.control.rule import WILDCARD
from console.fpsctl.rows import Paced, Row, row
from console.fpsctl.session import Session
from console.fpsctl.sidecars import Said
from console.fpsctl.workers import MOST_SCANS
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb


@dataclass(frozen=True)
class Board:
    """All streams at one time."""

    rows: list[Row]
    said: list[Said]
    """By the sidecars."""
    asked: float
    """The frames per second that the limits ask for."""
    problems: list[str] = field(default_factory=list)
    """What can't be seen, and why, for people."""

    @property
    def admitted_fps(self) -> float:
        """Frames per second that are admitted."""
        return sum(each.admitted_fps or 0.0 for each in self.rows)

    @property
    def counted_fps(self) -> float:
        """Frames per second that are counted."""
        return sum(each.counted_fps or 0.0 for each in self.rows)


def read_board(session: Session, most_scans: int = MOST_SCANS) -> Board:
    """Reads everything. What this user of Redis may not read is absent, and a problem says so.

    Args:
        session: the run.
        most_scans: how far to search for streams that nothing else names; what was found before is known.

    Raises:
        redis.RedisError: Redis is unreachable, or failed.
    """
    unreadable, limits = "", None
    try:
        limits = session.limits.snapshot()
    except redis.exceptions.NoPermissionError as error:
        unreadable = "; ".join(filter(None, failure_in_words(error)))
    now = session.now()
    said = session.sidecars.streams()
    paced: dict[str, list[Paced]] = {}
    for each in said:
        for stream in each.streams:
            paced.setdefault(stream.stream_name, []).append(paced_of(stream))
    default = session.sidecars.default_fps() if paced else None
    fields = limits.limits.keys() | limits.boosts.keys() if limits else set()
    names = (paced.keys() | session.workers.names(most_scans) | fields) - {WILDCARD}
    counted, cameras = session.workers.streams(names), session.workers.cameras(names)
    gone = names - paced.keys() - counted.keys() - cameras.keys() - fields
    session.workers.forget(gone)
    rows = [
        row(
            name,
            limits,
            now,
            default=default,
            paced=paced.get(name, ()),
            counted=counted.get(name),
            camera=cameras.get(name),
        )
        for name in sorted(names - gone)
    ]
    problems = [unreadable] if unreadable else session.limits.problems
    problems += session.sidecars.problems(said)
    if session.workers.problem:
        problems.append(session.workers.problem)
    if all(each.problem for each in said) and not problems:
        problems.append("no sidecar answers at 127.0.0.1:50051, so admitted frames aren't shown (--sidecar ADDRESS)")
    asked = sum(asked_fps(each.state, each.limit, each.source_fps) for each in rows)
    return Board(rows, said, asked, problems)


def paced_of(stream: pb.StreamStatus) -> Paced:
    """Returns what a sidecar says about a stream as plain values."""
    return Paced(
        fps=stream.fps,
        source=word(pb.FpsSource, stream.fps_source, "FPS_SOURCE_").lower(),
        admitted=stream.admitted,
        denied=stream.denied,
        admitted_fps=stream.achieved_fps,
        source_fps=stream.source_fps,
        invalid=stream.invalid_value,
        last_reason=word(pb.Reason, stream.last_reason, "REASON_"),
        stale=stream.stale,
        last_ts=stream.last_ts,
        next_ts=stream.next_ts,
        unread=stream.limit_unread,
    )


def word(enum: object, value: int, prefix: str) -> str:
    """Returns the name of a value of the contract without its prefix; a number for one that a newer sidecar knows."""
    try:
        name: str = enum.Name(value)  # type: ignore[attr-defined]
    except ValueError:
        return str(value)
    return name.removeprefix(prefix)
