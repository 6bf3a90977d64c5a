"""Joins the fps table with the schedules: the decision about a frame, and what is known about each stream.

All in memory and without waiting; only :meth:`Limiter.prepare` may wait, for the limit of a stream that was never
asked about. The caller validates (see service) and passes the real time in.

At most ``max_streams`` streams have a schedule. A stream may be evicted once it has been silent for its *hold*,
min(period, 60 s): a stream that comes back after a period is admitted by its own schedule too, so eviction never lets
it exceed its rate. (Below one frame a minute it may: a stream that was silent for a minute and evicted starts anew.)
A heap finds the one whose hold ended first, which among equals is the one silent the longest. Its keys are lower
bounds, since hearing a stream doesn't touch the heap: a key that turns out too low is corrected when it comes up,
which each frame can cause once. (A raised limit shortens holds, so a key may be up to a minute too high after it: new
streams wait so long for room at worst.) One new stream corrects 64 at most, so none waits long; if no evictable one was found
by then, it is denied, and the next attempt goes on from there.

What clients deny by a lease they report within a second (see session). So a leased stream's silence is known to within
that: its hold is as much longer, and whoever holds a lease is told when the stream changes by somebody else's doing.
"""

import bisect
import heapq
import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple

from handcounter.pacing.schedule import Pacing, Reason, Schedule, decide, next_ts
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.stream import NEVER_EARLY, NO_VERSION, Stream
from sidecar.limits.table import FpsTable
from sidecar.limits.values import FpsSource, Limit

LONGEST_HOLD_S: Final = 60.0
CORRECTIONS_PER_EVICTION: Final = 64

REPORT_GRACE_S: Final = 1.5
"""What leases denied is known this late at most: a second, and half of one for the way."""

ACTIVE_S: Final = 60.0
"""A stream silent for longer isn't watched in Redis any more."""

_SPARE_NAMES: Final = 4096
"""So many streams without a schedule may be watched, so that not each of their frames asks Redis."""

_ADMITTED, _TOO_SOON = Reason.ADMITTED, Reason.TOO_SOON


class Answers(NamedTuple):
    """The decisions about many frames, in columns."""

    should_process: list[bool]
    reasons: list[Reason]
    fps: list[float]
    next_ts: list[float]


class StreamStatus(NamedTuple):
    """What is known about one stream; the fields are those of the contract."""

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
    last_ts: float
    next_ts: float


class Limiter:
    """Decides frames.

    Args:
        table: the limits.
        leases: the leases that an admission, an eviction or the end of watching revokes.
        learn: makes the table watch streams, waiting a bounded time for their limits.
        pacing: how schedules move on.
        max_streams: how many streams may have a schedule.
        clock: real time, seconds by a monotonic clock; only for what is told, decisions are given theirs.
        shadow: let all frames through: the reasons tell the decisions, which are made and counted as ever.
    """

    def __init__(
        self,
        table: FpsTable,
        leases: LeaseBook,
        learn: Callable[[Collection[str]], Awaitable[None]],
        *,
        pacing: Pacing,
        max_streams: int,
        clock: Callable[[], float] = time.monotonic,
        shadow: bool = False,
    ) -> None:
        self.shadow = shadow
        """Whether all frames are let through."""
        self.evicted = 0
        """Streams whose schedule was dropped for another stream's."""
        self.refused = 0
        """Frames denied because there was no room for their stream's schedule."""
        self.decisions = [0] * (len(Reason) + 1)
        """Frames by reason, at the reason's number."""
        self._table = table
        self._leases = leases
        self._learn = learn
        self._pacing = pacing
        self._clock = clock
        self._max_streams = max_streams
        self._streams: dict[str, Stream] = {}
        self._evictable: list[Stream] = []
        self._sorted_names: list[str] | None = None
        self._being_asked: dict[object, set[str]] = {}
        """Streams of questions that wait for limits, by question."""

    def __len__(self) -> int:
        """How many streams have a schedule."""
        return len(self._streams)

    @property
    def stale(self) -> bool:
        """Whether Redis is out of reach, so that the limits are the last known ones."""
        return self._table.stale

    def unprepared(self, stream_names: Sequence[str]) -> list[str]:
        """The streams among these that :meth:`prepare` is to be called for."""
        watched, version = self._table.watched, self._table.version
        return [
            name
            for name, stream in zip(stream_names, map(self._streams.get, stream_names), strict=True)
            if (stream is None or stream.table_version != version) and name not in watched
        ]

    def is_prepared(self, stream_name: str) -> bool:
        """Whether :meth:`prepare` needn't be called for a stream: as :meth:`unprepared`, for one."""
        return stream_name in self._table.watched

    async def prepare(self, stream_names: Collection[str], asked: Collection[str] = ()) -> None:
        """Waits, a bounded time, for limits. Never fails.

        Args:
            stream_names: streams that aren't watched.
            asked: all that will be decided then, whose limits are kept until then.
        """
        question = object()
        self._being_asked[question] = {*stream_names, *asked}
        try:
            if len(self._table.watched) >= self._max_streams + _SPARE_NAMES:
                self._forget_names_without_stream()
            await self._learn(stream_names)
        finally:
            del self._being_asked[question]

    def streams(self) -> list[Stream]:
        """The streams that have a schedule, the oldest first. From any thread, for those who only read."""
        return list(self._streams.values())

    def stream(self, stream_name: str) -> Stream | None:
        """What is kept for a stream, if it has a schedule. From any thread, for those who only read."""
        return self._streams.get(stream_name)

    def fps(self, stream_name: str) -> float:
        """The limit in force for a stream, frames per second. From any thread."""
        return self._table.fps(stream_name)

    async def answer(self, stream_name: str, ts: float, now: float) -> tuple[Reason, Limit, float, bool]:
        """Decides one frame; see :meth:`decide`. Also tells whether that was without Redis."""
        return *self.decide(stream_name, ts, now), self.stale

    async def answer_all(self, stream_names: Sequence[str], tss: Sequence[float], now: float) -> Answers:
        """Decides frames in their order, as :meth:`answer` would one by one; in the shadow all are let through."""
        return self._told(self.decide_all(stream_names, tss, now))

    def decide(self, stream_name: str, ts: float, now: float) -> tuple[Reason, Limit, float]:
        """Decides one frame.

        Args:
            stream_name: a valid name that isn't :meth:`unprepared`.
            ts: valid capture time, seconds by the stream's clock.
            now: real time, seconds by a monotonic clock.

        Returns:
            The reason; the limit in force; next_ts, which is 0 where any ts would be admitted, and where there is no
            schedule to tell by.
        """
        stream = self._streams.get(stream_name)
        if stream is not None and stream.table_version == self._table.version and stream.last_ts < ts < stream.next_ts:
            # Certain to be denied, see decide_all.
            self.decisions[_TOO_SOON] += 1
            stream.hear(ts, now, _TOO_SOON)
            return _TOO_SOON, self._table.limit(stream_name), stream.next_ts
        reason, _, due = self._decide(stream_name, ts, now)
        return reason, self._table.limit(stream_name), due

    def decide_all(self, stream_names: Sequence[str], tss: Sequence[float], now: float) -> Answers:
        """Decides frames in their order, as :meth:`decide` would one by one.

        Most frames come between the last admitted one and next_ts, so they are certain to be TOO_SOON (see
        :func:`schedule.next_ts`). While the table doesn't change they are answered right here, from what the last full
        decision found: at a third of the cost, and from fewer pieces of memory, which is what counts with very many
        streams.
        """
        version = self._table.version
        # Looked up in one go, which lets the processor wait for many streams' memory at once. Who is evicted meanwhile
        # has no version any more, and who is added isn't here: both go the long way.
        streams = list(map(self._streams.get, stream_names))
        should_process = [False] * len(stream_names)
        reasons = [_TOO_SOON] * len(stream_names)
        fps_of: list[float] = []
        next_tss: list[float] = []
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
        self.decisions[_TOO_SOON] += early
        return Answers(should_process, reasons, fps_of, next_tss)

    def _decide(self, name: str, ts: float, now: float) -> tuple[Reason, float, float]:
        """Gives the reason, the fps in force and next_ts."""
        fps = self._table.fps(name)
        stream = self._streams.get(name) or self._add_stream(name, ts, now)
        if stream is None:
            self.refused += 1
            self.decisions[_TOO_SOON] += 1
            return _TOO_SOON, fps, 0.0
        before = stream.schedule
        reason, schedule = decide(before, ts, fps, now, self._pacing)
        self.decisions[reason] += 1
        stream.hear(ts, now, reason)
        if schedule is not None and schedule is not before:
            stream.admit(schedule)
            if self._leases.holders:
                self._leases.revoke(name)
        due = next_ts_of(schedule, fps)
        stream.fps = fps
        stream.next_ts = due if fps > 0.0 and schedule is not None else NEVER_EARLY
        stream.table_version = self._table.version if name in self._table.watched else NO_VERSION
        return reason, fps, due

    def lease(self, stream_name: str) -> tuple[float, float]:
        """What is certain of the stream's next frames: last_ts and next_ts. A next_ts of 0: nothing, as in the shadow."""
        stream = self._streams.get(stream_name)
        if stream is None or self.shadow or stream_name not in self._table.watched:
            return 0.0, 0.0  # of a stream that isn't watched no change would be told
        fps, schedule = self._table.fps(stream_name), stream.schedule
        return (0.0 if schedule is None else schedule.last_ts), next_ts_of(schedule, fps)

    def take_in(self, stream_name: str, denied: Sequence[int], last_ts: float, reason: Reason, at: float) -> None:
        """Takes in what was denied by a lease.

        Args:
            stream_name: the stream; where it has no schedule any more, its frames are counted all the same.
            denied: frames by reason, at the reason's number.
            last_ts: the newest frame's ts, seconds by the stream's clock.
            reason: the newest frame's.
            at: real time of the newest frame, seconds by the clock of the decisions.
        """
        for number, frames in enumerate(denied):
            self.decisions[number] += frames
        stream = self._streams.get(stream_name)
        if stream is None:
            return
        stream.denied += sum(denied)
        if at >= stream.heard_at:
            stream.heard_at, stream.heard_ts, stream.last_reason = at, last_ts, reason

    def sweep(self, now: float) -> None:
        """Lets silent streams fall asleep in the table; to be called every few seconds. O(streams)."""
        watched = self._table.watched
        silent_since = now - ACTIVE_S
        silent = [name for name, stream in self._streams.items() if stream.heard_at < silent_since and name in watched]
        for name in silent:
            self._table.put_to_sleep(name)
            self._leases.revoke(name)  # changes of its limit won't be noticed any more
        self._forget_names_without_stream()

    async def list_streams(self, name_prefix: str, after: str, count: int) -> list[StreamStatus]:
        """Tells about streams in the order of their names.

        Args:
            name_prefix: only names that begin with it.
            after: only names greater than this one.
            count: at most so many.
        """
        if self._sorted_names is None:
            self._sorted_names = sorted(self._streams)
        names = self._sorted_names
        start = max(bisect.bisect_right(names, after), bisect.bisect_left(names, name_prefix))
        page = [name for name in names[start : start + count] if name.startswith(name_prefix)]
        asleep = [name for name in page if name not in self._table.watched]
        if asleep:
            await self.prepare(asleep)
        now = self._clock()
        return [self._status(self._streams[name], now) for name in page if name in self._streams]

    def _status(self, stream: Stream, now: float) -> StreamStatus:
        limit = self._table.limit(stream.name)
        schedule = self._schedule(stream)
        return StreamStatus(
            stream_name=stream.name,
            fps=limit.fps,
            fps_source=limit.source,
            invalid_value=self._table.invalid_value(stream.name),
            stale=self._table.stale,
            admitted=stream.admitted,
            denied=stream.denied,
            achieved_fps=stream.achieved_fps(now),
            speed=stream.speed(now),
            last_reason=stream.last_reason,
            last_ts=0.0 if schedule is None else schedule.last_ts,
            next_ts=next_ts_of(schedule, limit.fps),
        )

    def _told(self, answers: Answers) -> Answers:
        """What is answered: the decisions, or, in the shadow, always yes and a next_ts by which nobody denies."""
        if not self.shadow:
            return answers
        frames = len(answers.reasons)
        return answers._replace(should_process=[True] * frames, next_ts=[0.0] * frames)

    def _schedule(self, stream: Stream) -> Schedule | None:
        return stream.schedule

    def _add_stream(self, name: str, ts: float, now: float) -> Stream | None:
        """Makes room for a new stream and adds it; None if there is no room."""
        if len(self._streams) >= self._max_streams and not self._evict(now):
            return None
        stream = Stream(name, ts, now)
        self._streams[name] = stream
        heapq.heappush(self._evictable, stream)
        self._sorted_names = None
        return stream

    def _evict(self, now: float) -> bool:
        heap = self._evictable
        for _ in range(CORRECTIONS_PER_EVICTION):
            stream = heap[0]
            if stream.evictable_from > now:
                return False
            evictable_from = stream.heard_at + self._hold_s(stream.name)
            if evictable_from > stream.evictable_from:
                stream.evictable_from = evictable_from
                heapq.heapreplace(heap, stream)
                continue
            heapq.heappop(heap)
            # Its limit stays in the table until the next sweep: it may come later in this very batch.
            self._evicted(stream)
            return True
        return False

    def _evicted(self, stream: Stream) -> None:
        del self._streams[stream.name]
        stream.table_version = NO_VERSION
        self._sorted_names = None
        self.evicted += 1
        self._leases.revoke(stream.name)

    def _hold_s(self, stream_name: str) -> float:
        fps = self._table.fps(stream_name)
        hold_s = min(1.0 / fps, LONGEST_HOLD_S) if fps > 0.0 else LONGEST_HOLD_S
        return hold_s + REPORT_GRACE_S if self._leases.has_lease(stream_name) else hold_s

    def _forget_names_without_stream(self) -> None:
        for name in (self._table.names() - self._streams.keys()).difference(*self._being_asked.values()):
            self._table.forget(name)


def next_ts_of(schedule: Schedule | None, fps: float) -> float:
    """The next_ts to tell. Where there was no admission yet it is for people and JSON: the least ts, not -infinity."""
    if schedule is None:
        return math.inf if fps == 0.0 else 0.0
    return next_ts(schedule, fps)
