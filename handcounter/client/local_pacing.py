"""Paces streams without the sidecar, from where its answers left them. Pure."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from handcounter.pacing.schedule import TOLERANCE_S, Reason, Schedule, decide


class _Stream(NamedTuple):
    fps: float
    schedule: Schedule | None


class LocalPacing:
    """What was last told about each stream, and decisions by it.

    Args:
        default_fps: what a stream is paced at that nothing was told about.
        max_streams: of how many streams the last answers are kept; the longest unasked are forgotten.
    """

    def __init__(self, default_fps: float, max_streams: int = 100_000) -> None:
        self._default_fps = default_fps
        self._max_streams = max_streams
        self._streams: dict[str, _Stream] = {}  # the longest unasked first

    @property
    def stream_names(self) -> list[str]:
        """The streams that something is known about, the longest unasked first."""
        return list(self._streams)

    def learn(
        self,
        frames: Sequence[tuple[str, float]],
        reasons: Iterable[Reason],
        fps: Iterable[float],
        next_ts: Iterable[float],
        now: float,
    ) -> None:
        """Takes in the sidecar's answers, and reads out of them the schedule with which it goes on.

        Args:
            frames: stream_name and ts of each.
            reasons: of each frame.
            fps: in force for each frame's stream, frames per second.
            next_ts: of each frame's stream after the decision, seconds.
            now: real time, seconds by a monotonic clock.
        """
        streams = self._streams
        for (name, ts), reason, limit, due in zip(frames, reasons, fps, next_ts, strict=True):
            known = streams.pop(name, None)
            schedule = known.schedule if known else None
            if reason is Reason.ADMITTED:
                schedule = Schedule(_slot(due, limit, ts), ts, now)
            elif schedule is None and math.isfinite(due):
                slot = _slot(due, limit, ts)  # admitted for somebody else: its ts can't be far from the slot
                schedule = Schedule(slot, slot, now)
            streams[name] = _Stream(limit, schedule)
        self._forget()

    def decide(self, frames: Sequence[tuple[str, float]], now: float) -> list[Reason]:
        """Decides frames in their order, each stream at its last told fps."""
        reasons = []
        for name, ts in frames:
            stream = self._streams.pop(name, None) or _Stream(self._default_fps, None)
            reason, schedule = decide(stream.schedule, ts, stream.fps, now)
            self._streams[name] = _Stream(stream.fps, schedule)
            reasons.append(reason)
        self._forget()
        return reasons

    def _forget(self) -> None:
        for name in list(itertools.islice(self._streams, max(0, len(self._streams) - self._max_streams))):
            del self._streams[name]


def _slot(next_ts: float, fps: float, ts: float) -> float:
    """The slot that :func:`handcounter.pacing.schedule.next_ts` was told from; the admitted ts where that can't be."""
    if next_ts == 0.0:  # nothing was told
        return ts
    slot = next_ts - 1.0 / fps + TOLERANCE_S if fps > 0.0 else next_ts
    return slot if math.isfinite(slot) else ts
