"""Thinning: a publisher leaves out what the sidecar would deny, by the sidecar's own rule at the limit that it told. Pure.

A denied frame changes nothing. So whoever decides later, about the frames that are left, admits the same ones as if none
had been left out, but for one frame at each restart of either side and at each change of the limit that is on its way.

As long as the limit isn't known (no sidecar told it, or the one that did hasn't read it) every frame is due, and so it is if
the sidecar admits all of them (shadow mode).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from handcounter.pacing.schedule import ANY_TIME, NEVER, Pacing, Schedule, decide, next_ts
from handcounter.pacing.times import RealTime, StreamTime


class Limit(Protocol):
    """A limit, as :class:`handcounter.client.StreamLimit` has it."""

    @property
    def fps(self) -> float:
        """Frames per second; 0 pauses the stream, infinity lifts the limit."""
        ...

    @property
    def unread(self) -> bool:
        """Whether it is only assumed."""
        ...


class Limits(Protocol):
    """The last known limits, as :class:`handcounter.client.LimitsWatch` has them. Nothing here waits."""

    @property
    def pacing(self) -> Pacing:
        """How slots advance at an admission."""
        ...

    @property
    def shadow(self) -> bool:
        """Whether every frame is admitted, whatever its limit."""
        ...

    def limit(self, stream_name: str) -> Limit | None:
        """Returns the limit of a stream; None if it was never told."""
        ...


class Thinner:
    """Which frames of one stream are due, see :class:`worker.publish.thinning.Due`."""

    def __init__(self, limits: Limits, stream_name: str, clock: Callable[[], float]) -> None:
        """Takes the limits, which may change at any time, and real time, seconds by a monotonic clock."""
        self._limits = limits
        self._stream_name = stream_name
        self._clock = clock
        self._schedule: Schedule | None = None
        self._decided: tuple[float, Schedule | None] = (math.nan, None)
        """The frame that was decided last, and the schedule after it."""

    @property
    def catches_up(self) -> bool:
        """Whether frames that come up to a period late lose nothing of the rate."""
        return self._limits.pacing is Pacing.GCRA

    def fps(self) -> float:
        """Returns the limit in force, frames per second; infinity while it isn't known."""
        limit = None if self._limits.shadow else self._limits.limit(self._stream_name)
        return math.inf if limit is None or limit.unread else limit.fps

    def next_ts(self) -> float:
        """Returns the earliest capture time that is due at the limit in force; infinity while paused, -infinity: any."""
        fps = self.fps()
        return NEVER if fps == 0.0 else ANY_TIME if fps == math.inf else next_ts(self._schedule, fps)

    def is_due(self, ts: float) -> bool:
        """Returns whether the frame would be admitted now. Changes nothing that a later call depends on, but `taken`."""
        fps = self.fps()
        decision = decide(self._schedule, StreamTime(ts), fps, RealTime(self._clock()), self._limits.pacing)
        self._decided = ts, decision.schedule
        return fps == math.inf or decision.admitted

    def taken(self, ts: float) -> None:
        """Notes that the frame, which was due, is on its way, even if the limit has changed in the meantime."""
        decided_ts, schedule = self._decided
        if decided_ts == ts:
            self._schedule = schedule
        else:
            self._schedule = Schedule(StreamTime(ts), StreamTime(ts), RealTime(self._clock()))
