"""The way into the decisions, which all calls take: wait for limits that aren't known yet, then decide.

A decision joins three things: the limit in force (the fps table), the stream's timing state (the roster) and the rule
(a decider: of this pod, of the fleet, or in shadow mode around one of them). All of it is in memory. A batch waits for
two things only, each for a bounded time: the limits of streams that aren't watched, and in fleet scope the answers to
its claims.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple, cast

from handcounter.pacing.schedule import Reason, next_ts
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.decider import Answer, Answers, Batch, Decider, Lease
from sidecar.deciding.roster import LeasedDenials, Roster
from sidecar.deciding.stream import Stream
from sidecar.limits.table import FpsTable
from sidecar.limits.values import FpsSource


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


class Limiter:
    """Decides frames, and knows the state of each stream.

    Args:
        table: the limits.
        roster: the streams.
        decider: decides.
        read_limits: reads the limits of streams into the table and watches them, in bounded time. It never fails.
        clock: real time, seconds by a monotonic clock.
    """

    def __init__(
        self,
        table: FpsTable,
        roster: Roster,
        decider: Decider,
        read_limits: Callable[[Collection[str]], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._roster = roster
        self._decider = decider
        self._read_limits = read_limits
        self._clock = cast(Callable[[], RealTime], clock)

    def __len__(self) -> int:
        """Returns how many streams have a schedule."""
        return len(self._roster)

    async def decide(self, batch: Batch) -> Answers:
        """Decides frames in their order, as if one by one."""
        names = batch.stream_names
        if unread := self._roster.unread(names):
            await self._read(unread, names)
        return await self._decider.decide(batch, self._clock())

    def decide_one(self, stream_name: str, ts: StreamTime) -> Awaitable[Answer]:
        """Decides one frame, as a batch of one."""
        # Usually nothing has to be waited for here, and a coroutine that only awaits another one costs time.
        if stream_name in self._table.watched:
            return self._decider.decide_one(stream_name, ts, self._clock())
        return self._read_and_decide_one(stream_name, ts)

    def leases(self, stream_names: Sequence[str]) -> list[Lease | None]:
        """Returns the lease that an answer about each stream may grant now; None where nothing is certain."""
        return self._decider.leases(stream_names)

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

    async def _read_and_decide_one(self, stream_name: str, ts: StreamTime) -> Answer:
        await self._read((stream_name,), (stream_name,))
        return await self._decider.decide_one(stream_name, ts, self._clock())

    async def _read(self, unread: Collection[str], batch: Collection[str]) -> None:
        """Reads the limits of those streams of a batch that aren't watched; the limits of the others are kept meanwhile."""
        with self._roster.expecting(batch):
            await self._read_limits(unread)

    def _status(self, stream: Stream, now: RealTime) -> StreamStatus:
        limit = self._table.limit(stream.name)
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
        )
