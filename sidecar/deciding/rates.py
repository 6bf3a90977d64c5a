"""How fast a stream really is: its achieved fps and its speed, from packed marks. Pure.

A *mark* notes the real time, the number of admitted frames and the stream time of an admission. A stream keeps its
newest marks, each at least a 17th of the window and three admissions after the one before it. The window is the longer
of 10 s and 50 admissions. Speed is measured from the newest mark that lies a whole window back. Achieved fps is
measured from the very start of the window, interpolated between the two marks around it, so it is within 2 % at any
time, also while the rate changes.

A rate under one limit says nothing about another, so a change of the limit begins another series of marks, with the first
admission after it. Until there is a second one, the rate is the one at the change. While the window after a change isn't
full, the rate is at most the limit: the credit for lateness admits the first few frames faster.

Rates are counted from admission to admission, so they don't depend on where between two frames they are read. Silence
counts only if it is longer than the mean distance of two admissions.

There are as many series of marks as cameras, so their memory counts: each is one bytes object with the newest mark in
full and the others as differences, 10 bytes each.
"""

import struct
from collections.abc import Iterator
from typing import Final

from handcounter.pacing.times import RealTime

WINDOW_S: Final = 10.0
WINDOW_ADMISSIONS: Final = 50

_PARTS: Final = 17
"""Marks in a window. More would be more exact and take more memory."""
_PART_S: Final = WINDOW_S / _PARTS
PART_ADMISSIONS: Final = -(-WINDOW_ADMISSIONS // _PARTS)
"""Admissions between two marks, at least."""

_NEWEST: Final = struct.Struct("<ddd")
"""The newest mark: real time, admitted frames, stream time."""
_PART: Final = struct.Struct("<fHe")
"""The distance to the mark before it: seconds, admissions, and stream seconds per second."""
_MOST_ADMISSIONS: Final = 2**16 - 1
_FASTEST: Final = 65504.0
_ALL_PARTS_SIZE: Final = (_PARTS + 1) * _PART.size


def first_mark(now: RealTime) -> bytes:
    """Returns the marks of a stream that was never admitted. Real time is in seconds."""
    return begin_marks(now, 0, 0.0)


def begin_marks(now: RealTime, admitted: int, stream_s: float) -> bytes:
    """Returns the marks of a stream whose window begins with an admission; the arguments are those of :func:`add_mark`."""
    return _NEWEST.pack(now, admitted, stream_s)


def newest_mark_at(marks: bytes) -> float:
    """Returns the real time of the newest mark, seconds."""
    at: float = _NEWEST.unpack_from(marks)[0]
    return at


def add_mark(marks: bytes, now: RealTime, admitted: int, stream_s: float) -> bytes:
    """Adds a mark for an admission.

    Args:
        marks: the marks so far.
        now: real time of the admission, seconds.
        admitted: frames admitted so far, this one included.
        stream_s: stream time so far, seconds.

    Returns:
        The marks after it: the very object that was passed in if it is too early for another mark.
    """
    if admitted == 1:
        return _NEWEST.pack(now, admitted, stream_s)  # the time before the first admission is no part of a rate
    at, admitted_then, stream_s_then = _NEWEST.unpack_from(marks)
    span_s = now - at
    if span_s < _PART_S:
        return marks
    part = _PART.pack(
        span_s,
        min(admitted - int(admitted_then), _MOST_ADMISSIONS),
        min((stream_s - stream_s_then) / span_s, _FASTEST),
    )
    return _NEWEST.pack(now, admitted, stream_s) + (marks[_NEWEST.size :] + part)[-_ALL_PARTS_SIZE:]


def achieved_fps(marks: bytes, admitted: int, admitted_at: RealTime, now: RealTime) -> float:
    """Returns the admitted frames per second of real time over the window.

    Args:
        marks: the stream's marks.
        admitted: frames admitted so far, at least 1.
        admitted_at: real time of the last admission, seconds.
        now: real time, seconds.
    """
    since, admitted_before = _window_start(marks, admitted, admitted_at, now)
    frames, elapsed = admitted - admitted_before, admitted_at - since
    if frames <= 0.0 or elapsed <= 0.0:
        return (frames + 1.0) / max(now - since, WINDOW_S)
    return frames / max(elapsed, now - since - elapsed / frames)


def speed(marks: bytes, admitted: int, stream_s: float, heard_at: RealTime, now: RealTime) -> float:
    """Returns the stream seconds per real second over the window; 0 until some real time has passed.

    Args:
        marks: the stream's marks.
        admitted: frames admitted so far.
        stream_s: stream time up to the newest frame, seconds.
        heard_at: real time of the newest frame, seconds.
        now: real time, seconds.
    """
    mark = (float(now), 0.0, 0.0)
    for mark in _newest_first(marks):
        if now - mark[0] >= WINDOW_S and admitted - mark[1] >= WINDOW_ADMISSIONS:
            break
    since, _, stream_s_before = mark
    elapsed = heard_at - since
    return (stream_s - stream_s_before) / elapsed if elapsed > 0.0 else 0.0


def _newest_first(marks: bytes) -> Iterator[tuple[float, float, float]]:
    """Yields the real time, the admitted frames and the stream time of each mark, the newest first."""
    at, admitted, stream_s = _NEWEST.unpack_from(marks)
    yield at, admitted, stream_s
    for start in range(len(marks) - _PART.size, _NEWEST.size - 1, -_PART.size):
        span_s, frames, part_speed = _PART.unpack_from(marks, start)
        at -= span_s
        admitted -= frames
        stream_s -= part_speed * span_s
        yield at, admitted, stream_s


def _window_start(marks: bytes, admitted: int, admitted_at: RealTime, now: RealTime) -> tuple[float, float]:
    """Returns when the window began and how many frames were admitted by then; the first admission if that was later."""
    later, admitted_later = float(admitted_at), float(admitted)
    start, admitted_start = now - WINDOW_S, admitted_later - WINDOW_ADMISSIONS
    for at, admitted_then, _ in _newest_first(marks):
        if at <= start and admitted_then <= admitted_start:
            part = (admitted_start - admitted_then) / (admitted_later - admitted_then)  # marks differ in admissions,
            if later > at:  # but not in time if a batch of frames was admitted at once
                part = min(part, (start - at) / (later - at))
            part = min(part, 1.0)
            return at + part * (later - at), admitted_then + part * (admitted_later - admitted_then)
        later, admitted_later = at, admitted_then
    return later, admitted_later
