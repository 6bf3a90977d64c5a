"""The decision whether a frame of a stream may be processed. Pure.

Theory of operation
-------------------
A stream that is limited to ``fps`` frames per second has a nominal admission every ``period = 1 / fps`` seconds of
its own clock. Its :class:`Schedule` remembers the nominal time of the last admission, its *slot*. A frame is admitted
when it reaches the slot after that:

    admit iff ts >= slot + period;    then slot = max(slot + period, ts - CREDIT * period)

This is the generic cell rate algorithm (ITU-T I.371, virtual scheduling; the slot is the theoretical arrival time
less one period) seen from the side of the late frame: frames of a camera never fall exactly on the slots, so each
admission is a little late, and the slot moves by whole periods so that lateness isn't lost. "At least one period
since the last admitted frame" forgets it at each frame, which turns 30 fps limited to 20 into 15. The credit bounds
what a stream that was silent may catch up: in any W seconds of stream time at most ``W * fps + 1 + CREDIT`` frames
are admitted. The credit is 1.5 because with one period an alternating jitter of the source near source = target costs
6 to 12 % of the frames.

``Pacing.MIN_GAP`` is that simpler check, for users who want a strict gap and accept its aliasing; here it is the same
rule with ``slot = ts``.

The period is never stored, so a change of fps acts on the next frame, in both directions. A denied frame changes
nothing. Nothing here reads a clock or does I/O: the caller passes the real time in.
"""

import enum
import math
import re
from typing import NamedTuple

from handcounter.pacing.times import RealTime, StreamTime

TOLERANCE_S = 1e-6
"""Far below a frame and far above the rounding of a double near 1e9, so that 0.1 + 0.2 isn't earlier than 0.3."""

CREDIT_PERIODS = 1.5
"""How many periods of lateness a stream may catch up on."""

LATE_WINDOW_S = 2.0
"""A frame older than the last admitted one by more than this means that the stream's clock restarted."""

MAX_TS = 1e11
"""Unix seconds stay below this until the year 5138; Unix milliseconds have been above it since 1973."""

MAX_STREAM_NAME_LENGTH = 256
"""Characters, not bytes."""


_INVISIBLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ufeff]")

valid_names: set[str] = set()
"""Names that were found to be valid, so that each is looked at once and not with each frame."""

_MOST_VALID_NAMES = 65536


class Reason(enum.IntEnum):
    """Why a frame was admitted or denied; the numbers are those of the contract."""

    ADMITTED = 1
    TOO_SOON = 2
    PAUSED = 3
    DUPLICATE = 4
    LATE = 5


class Pacing(enum.StrEnum):
    """How the slot moves at an admission."""

    GCRA = "gcra"
    MIN_GAP = "min-gap"


class Schedule(NamedTuple):
    """One stream's timing state. Only an admission replaces it."""

    slot: StreamTime
    """Nominal time of the last admission, seconds by the stream's clock."""
    last_ts: StreamTime
    """Capture time of the last admitted frame, seconds by the stream's clock."""
    admitted_at: RealTime
    """Real time of the last admission, seconds by the caller's clock."""


class Decision(NamedTuple):
    """The decision about one frame, and the stream's state after it."""

    reason: Reason
    schedule: Schedule | None
    """The object that was passed in unless the frame was admitted. None: no frame was ever admitted."""

    @property
    def admitted(self) -> bool:
        """Whether the frame may be processed."""
        return self.reason is Reason.ADMITTED


NEVER = StreamTime(math.inf)
"""The ``next_ts`` of a paused stream."""

ANY_TIME = StreamTime(-math.inf)
"""The ``next_ts`` of a stream that was never admitted."""

_TOO_SOON, _PAUSED, _DUPLICATE, _LATE, _ADMITTED = (
    Reason.TOO_SOON,
    Reason.PAUSED,
    Reason.DUPLICATE,
    Reason.LATE,
    Reason.ADMITTED,
)


def decide(
    schedule: Schedule | None, ts: StreamTime, fps: float, now: RealTime, pacing: Pacing = Pacing.GCRA
) -> Decision:
    """Decides one frame.

    Args:
        schedule: the stream's state; None before its first admission.
        ts: capture time of the frame, seconds by the stream's clock, without a :func:`ts_error`.
        fps: the limit in force, frames per second: not negative, not NaN; 0 pauses, infinity lifts.
        now: real time, seconds by a monotonic clock; matters only if the stream's clock restarted.
        pacing: how the slot moves at an admission.

    Returns:
        The reason, and the schedule to keep.
    """
    if fps == 0.0:
        return Decision(_PAUSED, schedule)
    if schedule is None:
        return Decision(_ADMITTED, Schedule(ts, ts, now))
    slot, last_ts, admitted_at = schedule
    period = 1.0 / fps
    if ts <= last_ts:
        if ts == last_ts:
            return Decision(_DUPLICATE, schedule)
        if ts >= last_ts - LATE_WINDOW_S:
            return Decision(_LATE, schedule)
        # The stream's clock restarted (a file looped, a camera rebooted). Real time paces the restarts: there is at most
        # one in a period of real time. It doesn't pace jumps forward, which would break fast replays of thinned streams.
        # So if several clocks, more than LATE_WINDOW_S apart, share one name, each restart may be followed by one
        # admission for each clock that is further ahead: n clocks get up to n times the limit.
        if now < admitted_at + period - TOLERANCE_S:
            return Decision(_TOO_SOON, schedule)
        return Decision(_ADMITTED, Schedule(ts, ts, now))
    if ts < slot + period - TOLERANCE_S:
        return Decision(_TOO_SOON, schedule)
    if pacing is Pacing.MIN_GAP:
        return Decision(_ADMITTED, Schedule(ts, ts, now))
    advanced = max(slot + period, ts - CREDIT_PERIODS * period)
    return Decision(_ADMITTED, Schedule(advanced, ts, now))  # type: ignore[arg-type]  # a call of StreamTime costs 60 ns


def next_ts(schedule: Schedule | None, fps: float) -> StreamTime:
    """Returns the earliest ts that would be admitted at this fps, seconds by the stream's clock.

    Every ts from ``last_ts - LATE_WINDOW_S`` up to it is certain to be denied; older ones restart the clock. If the
    credit lets the next frame through at once, it is the next float after ``last_ts``. Infinity when paused; -infinity
    for a stream without an admission, since any ts would be admitted.
    """
    if fps == 0.0:
        return NEVER
    if schedule is None:
        return ANY_TIME
    due = schedule.slot + 1.0 / fps - TOLERANCE_S
    # A call of StreamTime would cost 60 ns of each decision.
    return due if due > schedule.last_ts else math.nextafter(schedule.last_ts, math.inf)  # type: ignore[return-value]


def ts_error(ts: float) -> str | None:
    """Returns the error for a capture time that isn't a number in [0, MAX_TS]; None for a valid one."""
    if 0.0 <= ts <= MAX_TS:
        return None
    if math.isnan(ts) or math.isinf(ts):
        return f"ts must be a finite number of seconds, got {ts}"
    if ts < 0.0:
        return f"ts must not be negative, got {ts}"
    return f"ts must be seconds, at most {MAX_TS:.0e}, got {ts}: are these milliseconds?"


def stream_name_error(stream_name: str) -> str | None:
    """Returns the error for a stream's name that isn't valid; None for a valid one.

    A valid name has 1 to 256 characters, no control characters such as line breaks, and no blanks at its ends: nobody sees
    these, so a limit for such a name would be set for another stream.
    """
    if stream_name in valid_names:
        return None
    if not stream_name:
        return "stream_name must not be empty"
    if len(stream_name) > MAX_STREAM_NAME_LENGTH:
        return (
            f"stream_name must have at most {MAX_STREAM_NAME_LENGTH} characters, got {len(stream_name)}: "
            f"{stream_name[:32]!r}..."
        )
    if _INVISIBLE.search(stream_name):
        return f"stream_name must not contain control characters, such as line breaks, got {stream_name!r}"
    if stream_name != stream_name.strip():
        return f"stream_name must not begin or end with blanks, got {stream_name!r}"
    if len(valid_names) >= _MOST_VALID_NAMES:
        valid_names.clear()
    valid_names.add(stream_name)
    return None
