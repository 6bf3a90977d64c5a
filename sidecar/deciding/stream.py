"""What the sidecar keeps for one stream: its schedule, its counters, and how fast it really goes. Pure.

Achieved fps and speed are measured between *marks*: the real time, the number of admitted frames and the stream time,
noted at an admission, each at least a 17th of the window after the one before. The window is the longer of 10 s and
50 admissions. Speed is measured from the youngest mark that a whole window lies behind, achieved fps from the window's
very begin, interpolated between two marks that are three admissions or 0.6 s apart, whichever is longer; so it is right
within 2 % at any time, also while the rate changes. A denied frame costs a few assignments, an admitted one
a comparison or two more.

Rates are counted from admission to admission, so they don't depend on where between two frames one looks; only a
silence longer than the mean distance counts too.
"""

import math
import struct
from collections.abc import Iterator
from typing import Final

from handcounter.pacing.schedule import Reason, Schedule

WINDOW_S: Final = 10.0
WINDOW_ADMISSIONS: Final = 50
SILENCE_S: Final = 5.0
"""A stream without any frame for this long achieves 0."""

NO_VERSION: Final = -1
"""A version that no fps table has."""

NEVER_EARLY: Final = -math.inf
"""The next_ts of a stream whose frames aren't TOO_SOON."""

_PARTS: Final = 17
_PART_S: Final = WINDOW_S / _PARTS
_PART_ADMISSIONS: Final = -(-WINDOW_ADMISSIONS // _PARTS)

_NEWEST: Final = struct.Struct("<ddd")
"""The newest mark: real time, admitted, stream time."""
_PART: Final = struct.Struct("<fHe")
"""How far the mark before it lies back: seconds, admissions, and stream seconds per second."""
_MOST_ADMISSIONS: Final = 2**16 - 1
_FASTEST: Final = 65504.0
_ALL_PARTS_SIZE: Final = (_PARTS + 1) * _PART.size


class Stream:
    """One stream's state.

    There are as many of these as cameras, so the memory of each counts: slots, the marks packed into one bytes object,
    floats shared with the schedule where they are the same.

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
        "denied",
        "evictable_from",
        "fps",
        "heard_at",
        "heard_ts",
        "last_reason",
        "last_ts",
        "name",
        "next_ts",
        "schedule",
        "table_version",
    )

    def __init__(self, name: str, ts: float, now: float) -> None:
        self.name = name
        self.schedule: Schedule | None = None
        self.admitted = 0
        self.denied = 0
        self.last_reason = Reason.TOO_SOON  # until the first decision, which follows at once
        self.heard_at = now
        """Real time of the newest frame, seconds."""
        self.heard_ts = ts
        """The newest frame's ts, seconds."""
        self.last_ts = ts
        """The ts of the last admitted frame, as in the schedule; before that, of the first frame."""
        self.table_version = NO_VERSION
        """The version of the fps table that the next two hold for."""
        self.fps = 0.0
        """The limit in force."""
        self.next_ts = NEVER_EARLY
        """Frames after last_ts and before this are TOO_SOON."""
        self.evictable_from = now
        """A real time before which the stream can't be evicted; kept by whoever evicts."""
        self._stream_s = 0.0  # sum of the stream's forward steps up to last_ts
        self._marks = _NEWEST.pack(now, 0.0, 0.0)
        self._mark_due = 1  # the first admission is a mark: the pause before it is no part of a rate

    def __lt__(self, other: "Stream") -> bool:
        """Orders by when they may be evicted, for a heap."""
        return self.evictable_from < other.evictable_from

    def hear(self, ts: float, now: float, reason: Reason) -> None:
        """Takes in that a frame was decided; if it was admitted, :meth:`admit` follows."""
        self.heard_at = now
        self.heard_ts = ts
        self.last_reason = reason
        if reason is not Reason.ADMITTED:
            self.denied += 1

    def admit(self, schedule: Schedule) -> None:
        """Takes in an admitted frame: the schedule after it."""
        self.schedule = schedule
        _, ts, now = schedule
        self.admitted += 1
        step = ts - self.last_ts
        if step > 0.0:
            self._stream_s += step
        self.last_ts = ts
        if self.admitted >= self._mark_due:
            self._mark(now)

    def achieved_fps(self, now: float) -> float:
        """Admitted frames per second of real time; 0 after 5 s without a frame, and before the first admission."""
        if self.schedule is None or now - self.heard_at >= SILENCE_S:
            return 0.0
        ended_at = self.schedule.admitted_at
        since, admitted_before = self._window_start(now, ended_at)
        frames, elapsed = self.admitted - admitted_before, ended_at - since
        if frames <= 0.0 or elapsed <= 0.0:
            return (frames + 1.0) / max(now - since, WINDOW_S)
        return frames / max(elapsed, now - since - elapsed / frames)

    def speed(self, now: float) -> float:
        """Stream seconds per real second over the same window; 0 until some real time has passed."""
        since, _, stream_s_before = self._window(now)
        elapsed = self.heard_at - since
        stream_s = self._stream_s - stream_s_before + max(0.0, self.heard_ts - self.last_ts)
        return stream_s / elapsed if elapsed > 0.0 else 0.0

    def _mark(self, now: float) -> None:
        if self.admitted == 1:
            parts = b""
        else:
            at, admitted, stream_s = _NEWEST.unpack_from(self._marks)
            span_s = now - at
            if span_s < _PART_S:
                return  # asked again at each admission until enough time has passed
            part = _PART.pack(
                span_s,
                min(self.admitted - int(admitted), _MOST_ADMISSIONS),
                min((self._stream_s - stream_s) / span_s, _FASTEST),
            )
            parts = (self._marks[_NEWEST.size :] + part)[-_ALL_PARTS_SIZE:]
        # A new one: the metrics are read from another thread.
        self._marks = _NEWEST.pack(now, self.admitted, self._stream_s) + parts
        self._mark_due = self.admitted + _PART_ADMISSIONS

    def _marks_back(self) -> Iterator[tuple[float, float, float]]:
        """Gives the marks, the newest first."""
        marks = self._marks
        at, admitted, stream_s = _NEWEST.unpack_from(marks)
        yield at, admitted, stream_s
        for start in range(len(marks) - _PART.size, _NEWEST.size - 1, -_PART.size):
            span_s, frames, speed = _PART.unpack_from(marks, start)
            at -= span_s
            admitted -= frames
            stream_s -= speed * span_s
            yield at, admitted, stream_s

    def _window(self, now: float) -> tuple[float, float, float]:
        """The mark to measure from."""
        mark = (now, 0.0, 0.0)
        for mark in self._marks_back():
            if now - mark[0] >= WINDOW_S and self.admitted - mark[1] >= WINDOW_ADMISSIONS:
                break
        return mark

    def _window_start(self, now: float, ended_at: float) -> tuple[float, float]:
        """When the window began, and how many frames were admitted by then; the first admission if that was later."""
        later, admitted_later = ended_at, float(self.admitted)
        begun, admitted_begun = now - WINDOW_S, admitted_later - WINDOW_ADMISSIONS
        for at, admitted, _ in self._marks_back():
            if at <= begun and admitted <= admitted_begun:
                part = 1.0
                if later > at:
                    part = min(part, (begun - at) / (later - at))
                if admitted_later > admitted:
                    part = min(part, (admitted_begun - admitted) / (admitted_later - admitted))
                return at + part * (later - at), admitted + part * (admitted_later - admitted)
            later, admitted_later = at, admitted
        return later, admitted_later
