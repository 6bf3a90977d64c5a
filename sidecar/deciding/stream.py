"""The state of one stream: its schedule, its counters, its newest frame. Pure.

There are as many of these as cameras, so the memory of each counts: slots, marks packed into one bytes object (see
rates), and floats shared with the schedule where they are the same.

A denied frame costs a few assignments, an admitted one a comparison or two more.
"""

import enum
import math
from typing import Final

from handcounter.pacing.schedule import ANY_TIME, LATE_WINDOW_S, Reason, Schedule
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.rates import (
    PART_ADMISSIONS,
    WINDOW_ADMISSIONS,
    WINDOW_S,
    achieved_fps,
    add_mark,
    begin_marks,
    first_mark,
    newest_mark_at,
    speed,
)
from sidecar.limits.table import NEVER_CHANGED

SILENCE_S: Final = 5.0
"""A stream without any frame for this long achieves 0."""

NO_VERSION: Final = -1
"""A version that no fps table has."""


_ANOTHER_LIMIT: Final = 0
"""In place of the admission at which a mark is due: the marks begin anew under another limit."""


class ClockChange(enum.Enum):
    """How a stream's clock can differ from real time at an admission."""

    RESTART = "restart"
    """It went back by more than 2 s."""
    JUMP = "jump"
    """It went forward by over 2 s more than real time did."""


class Stream:
    """One stream.

    Args:
        name: the stream's name.
        ts: of its first frame, seconds by its own clock.
        now: real time, seconds by a monotonic clock.
    """

    __slots__ = (
        "_mark_due",
        "_marks",
        "_stream_s",
        "admitted",
        "clock_jumps",
        "clock_restarts",
        "denied",
        "evictable_from",
        "fps",
        "heard_at",
        "heard_ts",
        "last_reason",
        "last_ts",
        "limit_since",
        "name",
        "next_ts",
        "schedule",
        "table_version",
    )

    def __init__(self, name: str, ts: StreamTime, now: RealTime) -> None:
        self.name = name
        self.schedule: Schedule | None = None
        """The state after the last admission here; None before the first."""
        self.admitted = 0
        self.clock_restarts = 0
        self.clock_jumps = 0
        self.denied = 0
        self.last_reason = Reason.TOO_SOON  # until the first decision, which follows at once
        self.heard_at = now
        """Real time of the newest frame, seconds."""
        self.heard_ts = ts
        """The newest frame's ts, seconds."""
        self.last_ts = ts
        """The ts of the last admitted frame, as in the schedule; before that, of the first frame."""
        self.table_version = NO_VERSION
        """The version of the fps table for which ``fps`` and ``next_ts`` are valid."""
        self.fps = 0.0
        """The limit in force, frames per second."""
        self.next_ts: StreamTime = ANY_TIME
        """Frames after ``last_ts`` and before this are TOO_SOON; ``ANY_TIME`` if no frame is."""
        self.limit_since = NEVER_CHANGED
        """Real time of the change of the limit since which the marks count, seconds."""
        self.evictable_from = now
        """A real time before which the stream can't be evicted; maintained by the roster."""
        self._stream_s = 0.0  # sum of the stream's forward steps up to last_ts
        self._marks = first_mark(now)
        self._mark_due = 1

    def __lt__(self, other: "Stream") -> bool:
        """Orders streams by when they may be evicted, for a heap."""
        return self.evictable_from < other.evictable_from

    def hear(self, ts: StreamTime, now: RealTime, reason: Reason) -> None:
        """Records the decision about a frame. If the frame was admitted, :meth:`admit` follows."""
        self.heard_at = now
        self.heard_ts = ts
        self.last_reason = reason
        if reason is not Reason.ADMITTED:
            self.denied += 1

    def change_limit(self, since: float) -> None:
        """Records that another limit is in force since this real time, seconds, if it is news."""
        if since != self.limit_since:
            self.limit_since = since
            self._mark_due = _ANOTHER_LIMIT

    def admit(self, schedule: Schedule) -> ClockChange | None:
        """Records an admitted frame and the schedule after it; returns how its clock changed, None if it just went on."""
        before, self.schedule = self.schedule, schedule
        change = None
        _, ts, now = schedule
        self.admitted += 1
        step = ts - self.last_ts
        if step > 0.0:
            self._stream_s += step
            if step > LATE_WINDOW_S and before is not None and step - (now - before.admitted_at) > LATE_WINDOW_S:
                self.clock_jumps += 1
                change = ClockChange.JUMP
        elif step < -LATE_WINDOW_S and before is not None:
            self.clock_restarts += 1
            change = ClockChange.RESTART
        self.last_ts = ts
        if self.admitted >= self._mark_due:
            self._add_mark(now, before, step)
        return change

    def _add_mark(self, now: RealTime, before: Schedule | None, step: float) -> None:
        marks = self._marks
        if self._mark_due == _ANOTHER_LIMIT and before is not None:
            if before.admitted_at <= self.limit_since:
                return  # the first admission under the limit; a rate needs two
            marks = begin_marks(before.admitted_at, self.admitted - 1, self._stream_s - max(step, 0.0))
        marks = add_mark(marks, now, self.admitted, self._stream_s)
        if marks is not self._marks:
            self._marks = marks  # replaced, not changed: metrics are read from another thread
            self._mark_due = self.admitted + PART_ADMISSIONS

    def achieved_fps(
        self, now: RealTime, fps: float = math.inf, since: float = NEVER_CHANGED, *, delivers: bool = False
    ) -> float:
        """Returns the admitted frames per second of real time.

        It is 0 before the first admission and after 5 s without a frame unless the source is known to deliver.

        Args:
            now: real time, seconds.
            fps: the limit in force, frames per second.
            since: real time of the last change of the limit, seconds.
            delivers: whether the source is known to deliver frames, though none may be heard of.
        """
        if self.schedule is None or (now - self.heard_at >= SILENCE_S and not delivers):
            return 0.0
        marks, admitted, admitted_at = self._marks, self.admitted, self.schedule.admitted_at
        if newest_mark_at(marks) <= since:
            now = RealTime(since)
            if admitted_at > since:
                admitted, admitted_at = admitted - 1, now
        rate = achieved_fps(marks, admitted, admitted_at, now)
        return min(rate, fps) if fps == 0.0 or now < since + max(WINDOW_S, WINDOW_ADMISSIONS / fps) else rate

    def speed(self, now: RealTime) -> float:
        """Returns the stream seconds per real second; 0 until some real time has passed."""
        stream_s = self._stream_s + max(0.0, self.heard_ts - self.last_ts)
        return speed(self._marks, self.admitted, stream_s, self.heard_at, now)
