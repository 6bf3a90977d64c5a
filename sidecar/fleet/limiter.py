"""The limiter in fleet scope: the same streams, counters and limits; the decisions are the fleet's."""

import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from handcounter.pacing.schedule import Pacing, Reason, Schedule
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Answers, Limiter, next_ts_of
from sidecar.deciding.stream import Stream
from sidecar.fleet.fleet import Frame
from sidecar.fleet.scope import FleetScope
from sidecar.limits.table import FpsTable
from sidecar.limits.values import Limit


class FleetLimiter(Limiter):
    """Decides frames together with the other replicas.

    Counters, achieved fps and speed are this replica's part; limits, last_ts and next_ts are the fleet's. The arguments
    are those of :class:`Limiter`, and the scope to decide in, which must be running.
    """

    def __init__(
        self,
        table: FpsTable,
        leases: LeaseBook,
        learn: Callable[[Collection[str]], Awaitable[None]],
        scope: FleetScope,
        *,
        pacing: Pacing,
        max_streams: int,
        clock: Callable[[], float] = time.monotonic,
        shadow: bool = False,
    ) -> None:
        super().__init__(table, leases, learn, pacing=pacing, max_streams=max_streams, clock=clock, shadow=shadow)
        self._scope = scope

    async def answer(self, stream_name: str, ts: float, now: float) -> tuple[Reason, Limit, float, bool]:
        """Decides one frame; also tells whether that was without Redis."""
        answers, stale = await self._answers((stream_name,), (ts,), now)
        limit = self._table.limit(stream_name)
        return answers.reasons[0], limit, answers.next_ts[0], stale

    async def answer_all(self, stream_names: Sequence[str], tss: Sequence[float], now: float) -> Answers:
        """Decides frames in their order."""
        answers, _ = await self._answers(stream_names, tss, now)
        return self._told(answers)

    async def _answers(self, stream_names: Sequence[str], tss: Sequence[float], now: float) -> tuple[Answers, bool]:
        evicted_before = self.evicted
        streams: list[Stream | None] = []
        frames: list[Frame] = []
        for name, ts in zip(stream_names, tss, strict=True):
            stream = self._streams.get(name) or self._add_stream(name, ts, now)
            streams.append(stream)
            if stream is not None:
                stream.heard_at = now  # it mustn't be evicted while it is decided
                frames.append(Frame(name, ts, self._table.fps(name)))
        verdicts = iter(await self._scope.decide(frames))
        stale = self.stale
        answers = Answers([], [], [], [])
        for name, ts, stream in zip(stream_names, tss, streams, strict=True):
            fps = self._table.fps(name)  # as it is now: whoever predicts by next_ts was told of changes meanwhile
            if stream is None:
                self.refused += 1
                reason, predicted = Reason.TOO_SOON, 0.0
            else:
                reason, schedule, alone = next(verdicts)
                stale |= alone
                stream.hear(ts, now, reason)
                if reason is Reason.ADMITTED and schedule is not None:
                    stream.admit(schedule)
                    if alone:
                        # The fleet revokes leases for what Redis admits; an admission without Redis ends them just as well.
                        self._leases.revoke(name)
                predicted = next_ts_of(schedule, fps / self._scope.replicas if alone else fps)
            self.decisions[reason] += 1
            answers.should_process.append(reason is Reason.ADMITTED)
            answers.reasons.append(reason)
            answers.fps.append(fps)
            answers.next_ts.append(predicted)
        if self.evicted != evicted_before:
            # Without a limit a stream may be evicted for a later one of its own batch, before it is decided.
            for name in stream_names:
                if name not in self._streams:
                    self._scope.forget(name)
        return answers, stale

    def lease(self, stream_name: str) -> tuple[float, float]:
        """What is certain of the stream's next frames; nothing while a claim is needed to know."""
        fps = self._table.fps(stream_name)
        if stream_name not in self._streams or self.shadow or stream_name not in self._table.watched:
            return 0.0, 0.0
        if fps == 0.0:
            return 0.0, math.inf
        schedule = self._scope.certain(stream_name, fps)
        return (0.0, 0.0) if schedule is None else (schedule.last_ts, next_ts_of(schedule, fps))

    def _evicted(self, stream: Stream) -> None:
        super()._evicted(stream)
        self._scope.forget(stream.name)

    def _schedule(self, stream: Stream) -> Schedule | None:
        return self._scope.schedule(stream.name) or stream.schedule
