"""Pod scope: one sidecar decides about its streams alone, by the schedules in its memory.

Most frames come after the last admitted one and before ``next_ts``, so they are certain to be TOO_SOON (see
:func:`schedule.next_ts`). As long as the fps table doesn't change, they are answered from what the last full decision
found. That takes a third of the time and touches fewer pieces of memory, which matters with very many streams.
"""

from collections.abc import Sequence

from handcounter.pacing.schedule import ANY_TIME, NEVER, Pacing, Reason, Schedule, decide, next_ts
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.decider import Answer, Answers, Batch, Lease
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.roster import Roster
from sidecar.deciding.stream import NO_VERSION, Stream
from sidecar.limits.table import FpsTable

_ADMITTED, _TOO_SOON = Reason.ADMITTED, Reason.TOO_SOON


class PodDecider:
    """Decides frames in memory, without waiting.

    Args:
        roster: the streams.
        table: the limits.
        leases: the leases that an admission revokes.
        pacing: how a slot advances.
    """

    def __init__(self, roster: Roster, table: FpsTable, leases: LeaseBook, pacing: Pacing) -> None:
        self._roster = roster
        self._add_stream = roster.add
        self._streams = roster.streams
        self._decisions = roster.decisions
        self._table = table
        self._leases = leases
        self._pacing = pacing

    async def decide(self, batch: Batch, now: RealTime) -> Answers:
        """Decides frames in their order, as if one by one; see :class:`sidecar.deciding.decider.Decider`."""
        stream_names, tss = batch
        version = self._table.version
        # Looking all streams up at once lets the processor wait for the memory of many of them at the same time. A stream that
        # is evicted meanwhile has no version any more, and one that is added isn't here: both take the long way.
        streams = list(map(self._streams.get, stream_names))
        should_process = [False] * len(stream_names)
        reasons = [_TOO_SOON] * len(stream_names)
        fps_of: list[float] = []
        next_tss: list[StreamTime] = []
        early = 0
        for index, (name, ts, stream) in enumerate(zip(stream_names, tss, streams, strict=True)):
            if stream is not None and stream.table_version == version and stream.last_ts < ts < stream.next_ts:
                stream.heard_at = now
                stream.heard_ts = ts
                stream.last_reason = _TOO_SOON
                stream.denied += 1
                early += 1
                fps_of.append(stream.fps)
                next_tss.append(stream.next_ts)
                continue
            reason, fps, due = self._decide(name, ts, now)
            reasons[index] = reason
            should_process[index] = reason is _ADMITTED
            fps_of.append(fps)
            next_tss.append(due)
        self._decisions[_TOO_SOON] += early
        return Answers(should_process, reasons, fps_of, next_tss, self._table.stale)

    async def decide_one(self, stream_name: str, ts: StreamTime, now: RealTime) -> Answer:
        """Decides one frame, as a batch of one."""
        stream = self._streams.get(stream_name)
        if stream is not None and stream.table_version == self._table.version and stream.last_ts < ts < stream.next_ts:
            stream.heard_at = now
            stream.heard_ts = ts
            stream.last_reason = _TOO_SOON
            stream.denied += 1
            self._decisions[_TOO_SOON] += 1
            return Answer(False, _TOO_SOON, self._table.limit(stream_name), stream.next_ts, self._table.stale)
        reason, _, due = self._decide(stream_name, ts, now)
        return Answer(reason is _ADMITTED, reason, self._table.limit(stream_name), due, self._table.stale)

    def leases(self, stream_names: Sequence[str]) -> list[Lease | None]:
        """Returns the lease that an answer about each stream may grant now."""
        version = self._table.version
        # After a decision the stream knows its next_ts already.
        return [
            Lease(stream.last_ts, stream.next_ts)
            if stream is not None and stream.table_version == version and stream.next_ts > ANY_TIME
            else self._lease(name, stream)
            for name, stream in zip(stream_names, map(self._streams.get, stream_names), strict=True)
        ]

    def schedule(self, stream: Stream) -> Schedule | None:
        """Returns the timing state of a stream; None before its first admission."""
        return stream.schedule

    def _decide(self, name: str, ts: StreamTime, now: RealTime) -> tuple[Reason, float, StreamTime]:
        """Decides one frame. Returns the reason, the fps in force and next_ts."""
        stream, version = self._streams.get(name), self._table.version
        # What the stream knows of its limit at this version spares a look into the table, which counts with very many streams.
        is_known = stream is not None and stream.table_version == version
        fps = stream.fps if stream is not None and is_known else self._table.fps(name)
        stream = stream or self._add_stream(name, ts, now)
        if stream is None:
            self._decisions[_TOO_SOON] += 1
            return _TOO_SOON, fps, ANY_TIME
        before = stream.schedule
        reason, schedule = decide(before, ts, fps, now, self._pacing)
        self._decisions[reason] += 1
        stream.hear(ts, now, reason)
        if not is_known:
            stream.change_limit(self._table.limit_since(name))
        if schedule is not None and schedule is not before:
            if change := stream.admit(schedule):
                self._roster.record_clock_change(stream, change)
            if self._leases.holders:
                self._leases.revoke(name)
        due = next_ts(schedule, fps)
        stream.fps = fps
        stream.next_ts = due if fps > 0.0 else ANY_TIME  # a paused stream's frames are denied for another reason
        stream.table_version = version if is_known or name in self._table.watched else NO_VERSION
        return reason, fps, due

    def _lease(self, name: str, stream: Stream | None) -> Lease | None:
        if stream is None or name not in self._table.watched:
            return None  # a change of its limit would go unnoticed
        fps, schedule = self._table.fps(name), stream.schedule
        if schedule is None:
            return Lease(None, NEVER) if fps == 0.0 else None
        return Lease(schedule.last_ts, next_ts(schedule, fps))
