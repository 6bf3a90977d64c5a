"""The way into the decisions, which all calls take: wait for limits that aren't known yet, then decide.

A decision joins three things: the limit in force (the fps table), the stream's timing state (the roster) and the rule
(a decider: of this pod, of the fleet, or in shadow mode around one of them). All of it is in memory. A batch waits for
two things only, each for a bounded time: the limits of streams that aren't watched, and in fleet scope the answers to
its claims.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple, cast

from handcounter.pacing.limits import FpsSource
from handcounter.pacing.schedule import ANY_TIME, Reason, next_ts
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.decider import UNDECIDED, Answer, Answers, Batch, Decider, Lease
from sidecar.deciding.roster import LeasedDenials, Roster
from sidecar.deciding.stream import Stream
from sidecar.limits.table import FpsTable


class StreamStatus(NamedTuple):
    """What is known about one stream; its fields are those of the contract."""

    stream_name: str
    fps: float
    fps_source: FpsSource
    invalid_value: str
    stale: bool
    admitted: int
    denied: int
    achieved_fps: float
    speed: float
    last_reason: Reason
    last_ts: StreamTime | None
    """None: no frame was admitted yet."""
    next_ts: StreamTime
    """As :func:`schedule.next_ts` returns it."""
    clock_restarts: int
    clock_jumps: int
    source_fps: float
    """Frames per second, as the stream's publisher tells it; 0 if none does."""
    limit_unread: bool
    pattern: str
    """The pattern that the limit comes from; empty if it comes from elsewhere."""
    boost_until: float
    """When the boost ends that the limit comes from, Unix seconds; 0 if it comes from elsewhere."""


class Limiter:
    """Decides frames, and knows the state of each stream.

    Args:
        table: the limits.
        roster: the streams.
        decider: decides.
        read_limits: reads the limits of streams into the table and watches them, in bounded time. It never fails.
        clock: real time, seconds by a monotonic clock.
        shadow: whether every frame is admitted, whatever its limit.
    """

    def __init__(
        self,
        table: FpsTable,
        roster: Roster,
        decider: Decider,
        read_limits: Callable[[Collection[str]], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        *,
        shadow: bool = False,
    ) -> None:
        self._table = table
        self._roster = roster
        self._decider = decider
        self._read_limits = read_limits
        self._clock = cast(Callable[[], RealTime], clock)
        self._shadow = shadow

    def __len__(self) -> int:
        """Returns how many streams have a schedule."""
        return len(self._roster)

    async def decide(self, batch: Batch, *, known_only: bool = False) -> Answers:
        """Decides frames in their order, as if one by one.

        Args:
            batch: the frames.
            known_only: whether frames of a stream whose limit was never read are left undecided.
        """
        names = batch.stream_names
        if unread := self._roster.unread(names):
            await self._read(unread, names)
        if self._table.unread:
            return await self._decide_marked(batch, leave_out=known_only and not self._shadow)
        return await self._decider.decide(batch, self._clock())

    def decide_one(self, stream_name: str, ts: StreamTime, *, known_only: bool = False) -> Awaitable[Answer]:
        """Decides one frame, as a batch of one."""
        # Usually nothing has to be waited for here, and a coroutine that only awaits another one costs time.
        if stream_name in self._table.watched and not self._table.unread:
            return self._decider.decide_one(stream_name, ts, self._clock())
        return self._read_and_decide_one(stream_name, ts, known_only=known_only)

    def leases(self, stream_names: Sequence[str], *, known_only: bool = False) -> list[Lease | None]:
        """Returns the lease that an answer about each stream may grant now; None where nothing is certain."""
        leases = self._decider.leases(stream_names)
        if known_only and (unread := self._table.unread):
            return [None if name in unread else lease for name, lease in zip(stream_names, leases, strict=True)]
        return leases

    def record_leased_denials(self, reports: Sequence[LeasedDenials]) -> None:
        """Counts what clients denied under their leases."""
        now = self._clock()
        for report in reports:
            self._roster.record_leased_denials(report, now)

    async def list_streams(self, name_prefix: str, after: str, count: int) -> list[StreamStatus]:
        """Returns the state of streams in the order of their names.

        Args:
            name_prefix: only names that begin with it.
            after: only names greater than this one.
            count: at most so many.
        """
        page = self._roster.page(name_prefix, after, count)
        asleep = [name for name in page if name not in self._table.watched]
        if asleep:
            await self._read(asleep, asleep)
        now, streams = self._clock(), self._roster.streams
        return [self._status(streams[name], now) for name in page if name in streams]

    def sweep(self) -> None:
        """Stops watching the limits of silent streams; to be called every few seconds."""
        self._roster.sweep(self._clock())

    async def _read_and_decide_one(self, stream_name: str, ts: StreamTime, *, known_only: bool) -> Answer:
        if stream_name not in self._table.watched:
            await self._read((stream_name,), (stream_name,))
        unread = stream_name in self._table.unread
        if unread and known_only and not self._shadow:
            return Answer(False, UNDECIDED, self._table.limit(stream_name), ANY_TIME, self._table.stale, unread)
        answer = await self._decider.decide_one(stream_name, ts, self._clock())
        return answer._replace(unread=True) if unread else answer

    async def _decide_marked(self, batch: Batch, *, leave_out: bool) -> Answers:
        """Decides frames of which some may belong to streams whose limits were never read; leaves those out if asked to."""
        names, tss = batch
        unread = tuple(place for place, name in enumerate(names) if name in self._table.unread)
        if not unread or not leave_out:
            return (await self._decider.decide(batch, self._clock()))._replace(unread=unread)
        left_out = set(unread)
        known = [place for place in range(len(names)) if place not in left_out]
        known_frames = Batch([names[place] for place in known], [tss[place] for place in known])
        decided = await self._decider.decide(known_frames, self._clock())
        should_process, next_tss = [False] * len(names), [ANY_TIME] * len(names)
        reasons, fps = [UNDECIDED] * len(names), [self._table.fps(name) for name in names]
        for place, may_process, reason, limit, due in zip(known, *decided[:4], strict=True):
            should_process[place], reasons[place], fps[place], next_tss[place] = may_process, reason, limit, due
        return Answers(should_process, reasons, fps, next_tss, decided.stale, unread)

    async def _read(self, unread: Collection[str], batch: Collection[str]) -> None:
        """Reads the limits of those streams of a batch that aren't watched; the limits of the others are kept meanwhile."""
        with self._roster.expecting(batch):
            await self._read_limits(unread)

    def _status(self, stream: Stream, now: RealTime) -> StreamStatus:
        limit = self._table.limit_in_force(stream.name)
        schedule = self._decider.schedule(stream)
        return StreamStatus(
            stream_name=stream.name,
            fps=limit.fps,
            fps_source=limit.source,
            invalid_value=self._table.invalid_value(stream.name),
            stale=self._table.stale,
            admitted=stream.admitted,
            denied=stream.denied,
            achieved_fps=self._roster.achieved_fps(stream, now),
            speed=stream.speed(now),
            last_reason=stream.last_reason,
            last_ts=None if schedule is None else schedule.last_ts,
            next_ts=next_ts(schedule, limit.fps),
            clock_restarts=stream.clock_restarts,
            clock_jumps=stream.clock_jumps,
            source_fps=self._roster.source_fps(stream.name),
            limit_unread=stream.name in self._table.unread,
            pattern=limit.pattern,
            boost_until=limit.boost_until,
        )
