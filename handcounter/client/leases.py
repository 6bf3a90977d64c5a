"""Which frames are certain to be denied, so that nobody needs to be asked; and what was denied so. Pure.

A lease comes with each answer of the sidecar: the ts of the stream's last admitted frame and the earliest ts that would
be admitted. By the rule (handcounter/pacing/schedule.py) a frame from 2 s before the one up to the other is denied, and changes
nothing. So answering it here is the same as asking, until somebody else changes the stream; then the sidecar drops the
lease. A frame that no lease covers ends the lease here too: the later ones of its stream depend on the answer.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from handcounter.pacing.schedule import LATE_WINDOW_S, Reason

_TOO_SOON, _DUPLICATE, _LATE = Reason.TOO_SOON, Reason.DUPLICATE, Reason.LATE
_EVER = float("inf")


class Denials(NamedTuple):
    """What was denied by leases on one stream."""

    stream_name: str
    frames: list[int]
    """By reason, at the reason's number."""
    last_ts: float
    """Of the newest frame, seconds by the stream's clock."""
    last_reason: Reason
    """Of the newest frame."""
    age: float
    """How long ago the newest frame was denied, seconds."""


class _Counts:
    __slots__ = ("at", "frames", "last_reason", "last_ts", "noted")

    def __init__(self) -> None:
        self.frames = [0] * (len(Reason) + 1)
        self.last_ts = self.at = 0.0
        self.last_reason = _TOO_SOON
        self.noted = False
        """Whether there is anything to report."""


class _Lease(NamedTuple):
    since: float
    last_ts: float
    next_ts: float
    reason: Reason
    """Why a frame after last_ts is denied."""
    counts: _Counts


class Leases:
    """The leases that are held. Not for several threads at a time.

    Args:
        max_streams: of how many streams; the longest unasked are given up.
    """

    def __init__(self, max_streams: int = 100_000) -> None:
        self._max_streams = max_streams
        self._leases: dict[str, _Lease] = {}  # the longest unasked first
        self._noted: list[tuple[str, _Counts]] = []

    def __len__(self) -> int:
        """How many leases are held."""
        return len(self._leases)

    def deny(self, frames: Sequence[tuple[str, float]], now: float) -> tuple[list[Reason | None], list[int]]:
        """Denies what is certain to be denied.

        Args:
            frames: stream_name and ts of each, in their order.
            now: real time, seconds by a monotonic clock.

        Returns:
            For each frame the reason, None where somebody has to be asked; and the indices of those.
        """
        leases, noted = self._leases, self._noted
        reasons: list[Reason | None] = []
        asked: list[int] = []
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
                    if not counts.noted:
                        counts.noted = True
                        noted.append((name, counts))
                    reasons.append(reason)
                    continue
                del leases[name]
            asked.append(len(reasons))
            reasons.append(None)
        return reasons, asked

    def grant(self, stream_name: str, *, fps: float, last_ts: float, next_ts: float) -> None:
        """Takes in what an answer says about the frames to come; a next_ts of 0 is no lease."""
        old = self._leases.pop(stream_name, None)
        if not next_ts > 0.0:
            return
        counts = old.counts if old else _Counts()
        if fps == 0.0:
            lease = _Lease(-_EVER, -_EVER, _EVER, Reason.PAUSED, counts)
        else:
            lease = _Lease(last_ts - LATE_WINDOW_S, last_ts, next_ts, _TOO_SOON, counts)
        self._leases[stream_name] = lease
        if len(self._leases) > self._max_streams:
            del self._leases[next(iter(self._leases))]

    def drop(self, stream_names: Iterable[str]) -> None:
        """Drops leases that no longer hold; what they denied is still to be reported."""
        for name in stream_names:
            self._leases.pop(name, None)

    def drop_all(self) -> None:
        """Drops all leases; what they denied is still to be reported."""
        self._leases.clear()

    def take_denials(self, now: float, at_most: int | None = None) -> list[Denials]:
        """Takes out what was denied since the last time, of so many streams at most."""
        noted = self._noted[:at_most]
        del self._noted[:at_most]
        denials = []
        for name, counts in noted:
            denials.append(Denials(name, counts.frames, counts.last_ts, counts.last_reason, max(0.0, now - counts.at)))
            counts.frames = [0] * len(counts.frames)
            counts.noted = False
        return denials
