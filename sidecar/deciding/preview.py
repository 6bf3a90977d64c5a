"""Dry runs: what would be decided about frames, without a change to anything that later decisions depend on.

Only the limits are read, as for a decision. No stream gets a schedule or is evicted, nothing is counted, no lease is
revoked, and in fleet scope Redis isn't asked: the answer is what this replica knows.
"""

import time
from collections.abc import Awaitable, Callable, Collection
from typing import cast

from handcounter.pacing.schedule import ANY_TIME, Pacing, Reason, Schedule, decide, next_ts
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.decider import UNDECIDED, Answer, Answers, Batch, Decider
from sidecar.deciding.roster import Roster
from sidecar.limits.table import FpsTable


class Preview:
    """Answers dry runs.

    Args:
        table: the limits.
        roster: the streams.
        decider: knows their schedules.
        read_limits: reads the limits of streams into the table and watches them, in bounded time. It never fails.
        pacing: how a slot advances.
        shadow: whether every frame would be admitted.
        clock: real time, seconds by a monotonic clock.
    """

    def __init__(
        self,
        table: FpsTable,
        roster: Roster,
        decider: Decider,
        read_limits: Callable[[Collection[str]], Awaitable[None]],
        *,
        pacing: Pacing = Pacing.GCRA,
        shadow: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._roster = roster
        self._decider = decider
        self._read_limits = read_limits
        self._pacing = pacing
        self._shadow = shadow
        self._clock = cast(Callable[[], RealTime], clock)

    async def decide(self, batch: Batch, *, known_only: bool = False) -> Answers:
        """Returns what would be decided about frames in their order; one that would be admitted counts for those after it.

        Args:
            batch: the frames.
            known_only: whether frames of a stream whose limit was never read are left undecided.
        """
        names = batch.stream_names
        if unread := self._roster.unread(names):
            with self._roster.expecting(names):
                await self._read_limits(unread)
        now = self._clock()
        schedules = {name: self._schedule(name) for name in set(names)}
        unlearned = tuple(place for place, name in enumerate(names) if name in self._table.unread)
        left_out = frozenset(unlearned) if known_only and not self._shadow else ()
        reasons: list[int] = []
        answers = Answers([], reasons, [], [], self._table.stale, unlearned)
        for place, (name, ts) in enumerate(zip(names, batch.tss, strict=True)):
            fps = self._table.fps(name)
            answers.fps.append(fps)
            if place in left_out:
                answers.should_process.append(False)
                reasons.append(UNDECIDED)
                answers.next_ts.append(ANY_TIME)
                continue
            reason, schedules[name] = decide(schedules[name], ts, fps, now, self._pacing)
            answers.should_process.append(self._shadow or reason is Reason.ADMITTED)
            reasons.append(reason)
            answers.next_ts.append(ANY_TIME if self._shadow else next_ts(schedules[name], fps))
        return answers

    async def decide_one(self, stream_name: str, ts: StreamTime, *, known_only: bool = False) -> Answer:
        """Returns what would be decided about one frame."""
        answers = await self.decide(Batch((stream_name,), (ts,)), known_only=known_only)
        limit = self._table.limit(stream_name)
        unread = bool(answers.unread)
        return Answer(answers.should_process[0], answers.reasons[0], limit, answers.next_ts[0], answers.stale, unread)

    def _schedule(self, stream_name: str) -> Schedule | None:
        stream = self._roster.streams.get(stream_name)
        return None if stream is None else self._decider.schedule(stream)
