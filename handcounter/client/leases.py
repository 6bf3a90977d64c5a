"""Leases: frames that are certain to be denied, so that the sidecar needn't be asked, and a count of them for it. Pure.

With each answer of a session comes a lease: the ts of the stream's last admitted frame and the earliest ts that would be
admitted. By the rule (handcounter/pacing/schedule.py) a frame between the two, or up to 2 s before the first, is denied and
changes nothing. So denying it here gives the sidecar's answer, until something else changes the stream: then the
sidecar revokes the lease. A frame outside its lease ends the lease, because the answers to the stream's later frames
depend on the answer to that one.
"""

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from handcounter.pacing.bounds import Frames
from handcounter.pacing.schedule import LATE_WINDOW_S, Reason
from handcounter.pacing.times import RealTime, StreamTime

_TOO_SOON, _DUPLICATE, _LATE = Reason.TOO_SOON, Reason.DUPLICATE, Reason.LATE
_FIRST: Final = StreamTime(-math.inf)
_LAST: Final = StreamTime(math.inf)


class Denials(NamedTuple):
    """The frames of one stream that leases denied since the last report."""

    stream_name: str
    frames: list[int]
    """How many, by reason: the index is the reason's number."""
    last_ts: StreamTime
    """Of the newest frame, seconds by the stream's clock."""
    last_reason: Reason
    """Of the newest frame."""
    age: float
    """Seconds since the newest frame was denied."""


class _Counts:
    __slots__ = ("at", "frames", "last_reason", "last_ts", "unreported")

    def __init__(self) -> None:
        self.frames = [0] * (len(Reason) + 1)
        self.last_ts = StreamTime(0.0)
        self.last_reason = _TOO_SOON
        self.at = RealTime(0.0)
        self.unreported = False


class _Lease(NamedTuple):
    since: float
    """Stream time, but not of that type: a call of it would cost more than the rest of this tuple."""
    last_ts: StreamTime
    next_ts: StreamTime
    reason: Reason
    """The reason for frames after last_ts."""
    counts: _Counts


class Leases:
    """The leases that a client holds. Not thread-safe.

    Args:
        max_streams: how many leases are held; beyond that, those of the streams asked about longest ago are dropped.
    """

    def __init__(self, max_streams: int = 100_000) -> None:
        self._max_streams = max_streams
        self._leases: dict[str, _Lease] = {}  # in the order in which they were granted
        self._unreported: list[tuple[str, _Counts]] = []

    def __len__(self) -> int:
        """Returns how many leases are held."""
        return len(self._leases)

    def deny(self, frames: Frames, now: RealTime) -> tuple[list[Reason | None], list[int]]:
        """Denies the frames that leases cover.

        Args:
            frames: stream_name and ts of each frame, in their order.
            now: real time, seconds by a monotonic clock.

        Returns:
            The reason for each frame, None if the sidecar must be asked; and the indices of the latter.
        """
        leases, unreported = self._leases, self._unreported
        reasons: list[Reason | None] = []
        uncovered: list[int] = []
        for name, ts in frames:
            lease = leases.get(name)
            if lease is not None:
                since, last_ts, next_ts, reason, counts = lease
                if since <= ts < next_ts:
                    if ts <= last_ts:
                        reason = _DUPLICATE if ts == last_ts else _LATE
                    counts.frames[reason] += 1
                    counts.last_ts = ts
                    counts.last_reason = reason
                    counts.at = now
                    if not counts.unreported:
                        counts.unreported = True
                        unreported.append((name, counts))
                    reasons.append(reason)
                    continue
                del leases[name]
            uncovered.append(len(reasons))
            reasons.append(None)
        return reasons, uncovered

    def grant(self, stream_name: str, *, fps: float, last_ts: StreamTime, next_ts: StreamTime | None) -> None:
        """Replaces the lease of a stream with that of a new answer.

        Args:
            stream_name: the stream.
            fps: the limit in force, frames per second. At 0 the lease covers every frame.
            last_ts: ts of the last admitted frame.
            next_ts: the earliest ts that would be admitted; None: the answer grants no lease.
        """
        old = self._leases.pop(stream_name, None)
        if next_ts is None:
            return
        counts = old.counts if old else _Counts()
        if fps == 0.0:
            lease = _Lease(_FIRST, _FIRST, _LAST, Reason.PAUSED, counts)
        else:
            lease = _Lease(last_ts - LATE_WINDOW_S, last_ts, next_ts, _TOO_SOON, counts)
        self._leases[stream_name] = lease
        if len(self._leases) > self._max_streams:
            del self._leases[next(iter(self._leases))]

    def are_paused(self, stream_names: Iterable[str]) -> tuple[set[str], list[str]]:
        """Returns which streams are paused by their lease, and those without a lease. Any other lease ends at a pause."""
        paused: set[str] = set()
        unknown: list[str] = []
        for name in stream_names:
            lease = self._leases.get(name)
            if lease is None:
                unknown.append(name)
            elif lease.reason is Reason.PAUSED:
                paused.add(name)
        return paused, unknown

    def drop(self, stream_names: Iterable[str]) -> None:
        """Drops the leases of some streams; what they denied is still reported."""
        for name in stream_names:
            self._leases.pop(name, None)

    def drop_all(self) -> None:
        """Drops all leases; what they denied is still reported."""
        self._leases.clear()

    def take_denials(self, now: RealTime, at_most: int | None = None) -> list[Denials]:
        """Returns what was denied since the last call, of at most so many streams, and resets its counts."""
        taken = self._unreported[:at_most]
        del self._unreported[:at_most]
        denials = []
        for name, counts in taken:
            denials.append(Denials(name, counts.frames, counts.last_ts, counts.last_reason, max(0.0, now - counts.at)))
            counts.frames = [0] * len(counts.frames)
            counts.unreported = False
        return denials
