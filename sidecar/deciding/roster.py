"""Which streams have a schedule: room for new streams, eviction, silence, and what all deciders count. No I/O.

At most ``max_streams`` streams have a schedule. A stream may be evicted once it has been silent for its *hold*,
min(period, 60 s). After a silence of one period the stream's own schedule would admit its next frame too, so an
eviction never lets a stream exceed its rate. (Below one frame a minute it may: a stream that was evicted after a minute
starts over.)

A heap yields the stream whose hold ended first; among equal holds that is the one silent for longest. Its keys are
lower bounds, since hearing a stream doesn't touch the heap: a key that turns out too low is corrected when it reaches
the top, which each frame can cause once. (A raised limit shortens holds, so for a minute after it a key may be too
high; at worst new streams wait that long for room.) One new stream corrects at most 64 keys, so no decision takes long.
If none of them could be evicted, the new stream is denied, and the next attempt continues from there.

Clients report the denials under their leases up to a second later, so the silence of a leased stream is certain only
after that: its hold is longer by ``REPORT_GRACE_S``.
"""

import bisect
import contextlib
import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple

from handcounter.pacing.schedule import Reason
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.stream import NO_VERSION, ClockChange, Stream
from sidecar.limits.table import FpsTable
from sidecar.limits.watchers import Watchers

LONGEST_HOLD_S: Final = 60.0
CORRECTIONS_PER_EVICTION: Final = 64

REPORT_GRACE_S: Final = 1.5
"""Denials under leases are known after this at the latest: clients report once a second, and reports take a moment."""

ACTIVE_S: Final = 60.0
"""The limit of a stream that is silent for longer isn't watched in Redis any more."""

SPARE_NAMES: Final = 4096
"""Streams without a schedule whose limits may be watched, so that not each of their frames reads Redis."""


class LeasedDenials(NamedTuple):
    """What a client denied under its lease on one stream."""

    stream_name: str
    frames: Sequence[int]
    """The number of frames by reason, at the reason's number."""
    last_ts: StreamTime
    """The newest frame's ts, seconds by the stream's clock."""
    last_reason: Reason
    """Why the newest frame was denied."""
    age_s: float
    """Seconds since the newest frame was denied."""


class Roster:
    """The streams that have a schedule.

    Args:
        table: the limits.
        leases: the leases that an eviction or the end of watching revokes.
        max_streams: how many streams may have a schedule.
        on_evicted: called with the name of each stream that was evicted.
        on_clock_change: called with each stream whose clock restarted or jumped.
        watchers: whose streams stay watched, and who know the rates of sources; None: there are none.
    """

    def __init__(
        self,
        table: FpsTable,
        leases: LeaseBook,
        *,
        max_streams: int,
        on_evicted: Callable[[str], None] | None = None,
        on_clock_change: Callable[[Stream, ClockChange], None] | None = None,
        watchers: Watchers | None = None,
    ) -> None:
        self.streams: dict[str, Stream] = {}
        """By name, the oldest first. Other objects read it; only the roster adds and removes streams."""
        self.decisions = [0] * (len(Reason) + 1)
        """Frames decided, by reason, at the reason's number."""
        self.clock_changes = dict.fromkeys(ClockChange, 0)
        """How often the clocks of streams restarted or jumped."""
        self.evicted = 0
        """Schedules removed to make room for another stream."""
        self.refused = 0
        """Frames denied because there was no room for their stream's schedule."""
        self._table = table
        self._watchers = Watchers() if watchers is None else watchers
        self._leases = leases
        self._max_streams = max_streams
        self._on_evicted = on_evicted
        self._on_clock_change = on_clock_change
        self._evictable: list[Stream] = []
        self._sorted_names: list[str] | None = None
        self._expected: dict[object, set[str]] = {}
        """Names that are about to be decided, by batch."""

    def __len__(self) -> int:
        """Returns how many streams have a schedule."""
        return len(self.streams)

    def snapshot(self) -> list[Stream]:
        """Returns the streams that have a schedule, the oldest first. Safe to call from any thread."""
        return list(self.streams.values())

    def unread(self, stream_names: Sequence[str]) -> list[str]:
        """Returns those of the streams whose limits have to be read before a decision, because they aren't watched."""
        watched, version = self._table.watched, self._table.version
        # A stream that was decided at this version needs no lookup in another dict, which counts with very many streams.
        return [
            name
            for name, stream in zip(stream_names, map(self.streams.get, stream_names), strict=True)
            if (stream is None or stream.table_version != version) and name not in watched
        ]

    @contextlib.contextmanager
    def expecting(self, stream_names: Collection[str]) -> Iterator[None]:
        """Keeps the limits of streams in the table while a batch about them waits for limits that are being read."""
        batch = object()
        self._expected[batch] = set(stream_names)
        try:
            if len(self._table.watched) >= self._max_streams + SPARE_NAMES + self._watchers.streams:
                self._forget_names_without_stream()
            yield
        finally:
            del self._expected[batch]

    def add(self, name: str, ts: StreamTime, now: RealTime) -> Stream | None:
        """Adds a new stream, making room for it if necessary.

        Args:
            name: its name.
            ts: of its first frame, seconds by its clock.
            now: real time, seconds.

        Returns:
            The stream; None if there is no room, which counts as a refused frame.
        """
        if len(self.streams) >= self._max_streams and not self._evict(now):
            self.refused += 1
            return None
        stream = Stream(name, ts, now)
        self.streams[name] = stream
        heapq.heappush(self._evictable, stream)
        self._sorted_names = None
        return stream

    def record_leased_denials(self, denials: LeasedDenials, now: RealTime) -> None:
        """Counts what a client denied. If the stream has no schedule any more, only the totals count it."""
        for number, frames in enumerate(denials.frames):
            self.decisions[number] += frames
        stream = self.streams.get(denials.stream_name)
        if stream is None:
            return
        stream.denied += sum(denials.frames)
        at = RealTime(now - denials.age_s)
        if at >= stream.heard_at:
            stream.heard_at, stream.heard_ts, stream.last_reason = at, denials.last_ts, denials.last_reason

    def record_clock_change(self, stream: Stream, change: ClockChange) -> None:
        """Counts that the clock of a stream restarted or jumped."""
        self.clock_changes[change] += 1
        if self._on_clock_change is not None:
            self._on_clock_change(stream, change)

    def sweep(self, now: RealTime) -> None:
        """Stops watching the limits of silent streams; to be called every few seconds. O(streams)."""
        watched, watchers = self._table.watched, self._watchers
        silent_since = now - ACTIVE_S
        silent = [name for name, stream in self.streams.items() if stream.heard_at < silent_since and name in watched]
        for name in silent:
            if name in watchers:
                continue
            self._table.put_to_sleep(name)
            self._leases.revoke(name)  # changes of its limit won't be noticed any more
        self._forget_names_without_stream()

    def source_fps(self, stream_name: str) -> float:
        """Returns the rate of a stream's source as its publisher tells it, frames per second; 0 if none does."""
        return self._watchers.source_fps(stream_name)

    def achieved_fps(self, stream: Stream, now: RealTime) -> float:
        """Returns the admitted frames of a stream per second of real time.

        Hearing nothing doesn't mean that the source is silent if its publisher leaves out what would be denied.
        """
        name = stream.name
        limit, since = self._table.fps(name), self._table.limit_since(name)
        return stream.achieved_fps(now, limit, since, delivers=self.source_fps(name) > 0.0)

    def page(self, name_prefix: str, after: str, count: int) -> list[str]:
        """Returns names of streams in their order: at most so many, with the prefix, greater than ``after``."""
        if self._sorted_names is None:
            self._sorted_names = sorted(self.streams)
        names = self._sorted_names
        start = max(bisect.bisect_right(names, after), bisect.bisect_left(names, name_prefix))
        return [name for name in names[start : start + count] if name.startswith(name_prefix)]

    def _evict(self, now: RealTime) -> bool:
        """Evicts the stream whose hold ended first. Returns whether one was found."""
        heap = self._evictable
        for _ in range(CORRECTIONS_PER_EVICTION):
            stream = heap[0]
            if stream.evictable_from > now:
                return False
            evictable_from = RealTime(stream.heard_at + self._hold_s(stream.name))
            if evictable_from > stream.evictable_from:
                stream.evictable_from = evictable_from
                heapq.heapreplace(heap, stream)
                continue
            heapq.heappop(heap)
            self._remove(stream)
            return True
        return False

    def _remove(self, stream: Stream) -> None:
        # Its limit stays in the table until the next sweep: a frame of it may follow in the same batch.
        del self.streams[stream.name]
        stream.table_version = NO_VERSION
        self._sorted_names = None
        self.evicted += 1
        self._leases.revoke(stream.name)
        if self._on_evicted is not None:
            self._on_evicted(stream.name)

    def _hold_s(self, stream_name: str) -> float:
        fps = self._table.fps(stream_name)
        hold_s = min(1.0 / fps, LONGEST_HOLD_S) if fps > 0.0 else LONGEST_HOLD_S
        return hold_s + REPORT_GRACE_S if self._leases.has_lease(stream_name) else hold_s

    def _forget_names_without_stream(self) -> None:
        for name in (self._table.names() - self.streams.keys()).difference(*self._expected.values()):
            if name not in self._watchers:
                self._table.forget(name)
