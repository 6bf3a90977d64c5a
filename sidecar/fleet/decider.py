"""Fleet scope as a decider: the streams, limits and counters of this replica, and the decisions of the fleet.

Counters, achieved fps and speed are this replica's part. Limits, ``last_ts`` and ``next_ts`` are those of the whole
fleet.
"""

from collections.abc import Sequence

from handcounter.pacing.schedule import ANY_TIME, NEVER, Reason, Schedule, next_ts
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.decider import Answer, Answers, Batch, Lease
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.roster import Roster
from sidecar.deciding.stream import Stream
from sidecar.fleet.fleet import Frame
from sidecar.fleet.scope import FleetScope
from sidecar.limits.table import FpsTable


class FleetDecider:
    """Decides frames together with the other replicas.

    Args:
        roster: this replica's streams. The scope's ``forget`` is called with each that is evicted.
        table: the limits.
        leases: the leases that an admission without Redis revokes. The fleet revokes those of all other admissions.
        scope: the fleet; it must be running.
    """

    def __init__(self, roster: Roster, table: FpsTable, leases: LeaseBook, scope: FleetScope) -> None:
        self._roster = roster
        self._table = table
        self._leases = leases
        self._scope = scope

    async def decide(self, batch: Batch, now: RealTime) -> Answers:
        """Decides frames in their order, as if one by one; see :class:`sidecar.deciding.decider.Decider`."""
        roster, table = self._roster, self._table
        evicted_before = roster.evicted
        streams: list[Stream | None] = []
        frames: list[Frame] = []
        for name, ts in zip(*batch, strict=True):
            stream = roster.streams.get(name) or roster.add(name, ts, now)
            streams.append(stream)
            if stream is not None:
                stream.heard_at = now  # so that it isn't evicted while the fleet decides
                frames.append(Frame(name, ts, table.fps(name)))
        verdicts = iter(await self._scope.decide(frames))
        should_process: list[bool] = []
        reasons: list[Reason] = []
        fps_of: list[float] = []
        next_tss: list[StreamTime] = []
        stale = table.stale
        for name, ts, stream in zip(*batch, streams, strict=True):
            fps = table.fps(
                name
            )  # as it is now, since leases revoked in the meantime must not be revived by the answer
            if stream is None:
                reason, due = Reason.TOO_SOON, ANY_TIME
            else:
                reason, schedule, without_redis = next(verdicts)
                stale |= without_redis
                stream.hear(ts, now, reason)
                stream.change_limit(table.limit_since(name))
                if reason is Reason.ADMITTED and schedule is not None:
                    if change := stream.admit(schedule):
                        roster.record_clock_change(stream, change)
                    if without_redis:
                        self._leases.revoke(name)
                due = next_ts(schedule, fps / self._scope.replicas if without_redis else fps)
            roster.decisions[reason] += 1
            should_process.append(reason is Reason.ADMITTED)
            reasons.append(reason)
            fps_of.append(fps)
            next_tss.append(due)
        if roster.evicted != evicted_before:
            # A stream without a limit may be evicted for a later one of its own batch, before the fleet decides its frame.
            for name in batch.stream_names:
                if name not in roster.streams:
                    self._scope.forget(name)
        return Answers(should_process, reasons, fps_of, next_tss, stale)

    async def decide_one(self, stream_name: str, ts: StreamTime, now: RealTime) -> Answer:
        """Decides one frame, as a batch of one."""
        answers = await self.decide(Batch((stream_name,), (ts,)), now)
        limit = self._table.limit(stream_name)
        return Answer(answers.should_process[0], answers.reasons[0], limit, answers.next_ts[0], answers.stale)

    def leases(self, stream_names: Sequence[str]) -> list[Lease | None]:
        """Returns the lease that an answer about each stream may grant now; None while only a claim can tell."""
        return [self._lease(name) for name in stream_names]

    def schedule(self, stream: Stream) -> Schedule | None:
        """Returns the schedule that the fleet shares, as far as this replica knows it."""
        return self._scope.schedule(stream.name) or stream.schedule

    def _lease(self, stream_name: str) -> Lease | None:
        if stream_name not in self._roster.streams or stream_name not in self._table.watched:
            return None
        fps = self._table.fps(stream_name)
        if fps == 0.0:
            return Lease(None, NEVER)
        schedule = self._scope.certain_schedule(stream_name, fps)
        return None if schedule is None else Lease(schedule.last_ts, next_ts(schedule, fps))
