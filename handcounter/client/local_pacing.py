"""Paces streams without the sidecar, starting from its last answers. Pure."""

import itertools
import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from handcounter.pacing.bounds import Frames
from handcounter.pacing.schedule import TOLERANCE_S, Reason, Schedule, decide
from handcounter.pacing.times import RealTime, StreamTime


class _Stream(NamedTuple):
    fps: float
    schedule: Schedule | None
    told: bool
    """Whether the fps is the sidecar's and not the default."""


class LocalPacing:
    """The last known limit and schedule of each stream, and decisions by them.

    Decides as the sidecar would, except when credit lets a stream's next frame through at once: the answer doesn't tell how
    much credit is left, so at most one admission is lost.

    Args:
        default_fps: the limit of streams that no answer was about, frames per second.
        max_streams: how many streams are remembered; beyond that, those asked about longest ago are forgotten.
    """

    def __init__(self, default_fps: float, max_streams: int = 100_000) -> None:
        self._default_fps = default_fps
        self._max_streams = max_streams
        self._streams: dict[str, _Stream] = {}  # asked about longest ago first

    @property
    def stream_names(self) -> list[str]:
        """The remembered streams, asked about longest ago first."""
        return list(self._streams)

    def learn(
        self,
        frames: Frames,
        reasons: Iterable[Reason | None],
        fps: Iterable[float],
        next_ts: Iterable[StreamTime | None],
        now: RealTime,
        unread: Collection[int] = (),
    ) -> None:
        """Remembers the sidecar's answers, and derives from them the schedules that the sidecar goes on with.

        Args:
            frames: stream_name and ts of each frame.
            reasons: of each frame; None for one that wasn't decided.
            fps: the limit in force for each frame's stream, frames per second.
            next_ts: the earliest ts that would be admitted after each decision; None: the answer doesn't say.
            now: real time, seconds by a monotonic clock.
            unread: the places of the frames for whose streams the sidecar only assumes a limit; one that it told before stays.
        """
        streams = self._streams
        for place, ((name, ts), reason, limit, due) in enumerate(zip(frames, reasons, fps, next_ts, strict=True)):
            if reason is None:
                continue
            known = streams.pop(name, None)
            schedule = known.schedule if known else None
            if reason is Reason.ADMITTED:
                schedule = Schedule(_slot(due, limit, ts), ts, now)
            elif schedule is None and (due is None or math.isfinite(due)):
                # No admission of the stream was seen here: the last was another client's, at a ts not far from the slot.
                slot = _slot(due, limit, ts)
                schedule = Schedule(slot, slot, now)
            told = not unread or place not in unread
            if known and known.told and not told:
                limit, told = known.fps, True
            streams[name] = _Stream(limit, schedule, told)
        self._forget()

    def decide(self, frames: Frames, now: RealTime) -> list[Reason]:
        """Decides frames in their order, each at the last known limit of its stream.

        Args:
            frames: stream_name and ts of each frame.
            now: real time, seconds by the same clock as for :meth:`learn`.
        """
        reasons = []
        for name, ts in frames:
            stream = self._streams.pop(name, None) or _Stream(self._default_fps, None, told=False)
            reason, schedule = decide(stream.schedule, ts, stream.fps, now)
            self._streams[name] = stream._replace(schedule=schedule)
            reasons.append(reason)
        self._forget()
        return reasons

    def told_fps(self, stream_name: str) -> float | None:
        """Returns the last known limit of a stream, frames per second; None if the sidecar never told it."""
        stream = self._streams.get(stream_name)
        return stream.fps if stream and stream.told else None

    def learn_limit(self, stream_name: str, fps: float) -> None:
        """Remembers the limit that the sidecar told without a decision, frames per second."""
        known = self._streams.pop(stream_name, None)
        self._streams[stream_name] = _Stream(fps, known.schedule if known else None, told=True)
        self._forget()

    def _forget(self) -> None:
        for name in list(itertools.islice(self._streams, max(0, len(self._streams) - self._max_streams))):
            del self._streams[name]


def _slot(next_ts: StreamTime | None, fps: float, ts: StreamTime) -> StreamTime:
    """Returns the slot that an answer's next_ts was computed from; the frame's ts if the answer doesn't say."""
    if next_ts is None:
        return ts
    slot = next_ts - 1.0 / fps + TOLERANCE_S if fps > 0.0 else next_ts
    return StreamTime(slot) if math.isfinite(slot) else ts
