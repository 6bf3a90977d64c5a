"""The rule for frames that may arrive slightly out of order, which fleet scope uses. Pure.

Several replicas decide the frames of one stream, some of them later than others. So a frame may be asked about after a
newer one was admitted. :func:`schedule.decide` calls it LATE, and its slot is lost: with replicas 100 ms apart, a 60
fps camera limited to 30 loses 8 % of its frames. By this rule it gets the decision that it would have got in time:

    a frame within REORDER_WINDOW_S of the last admitted one is admitted iff the rule, applied to it and to all admitted frames
    in the order of their ts, would admit them all

So the admitted frames of a stream, sorted by ts, are always a history that the rule allows, and its law holds by the
frames' own clock whatever the order of arrival. Frames in order are decided by the rule alone.

A :class:`Trail` keeps what this needs: the most recent admissions, and the slot after the first of them, from which the
later slots follow. Nothing before that first one is admitted any more.

``claim.lua`` is the twin of this file.
"""

import math
from itertools import pairwise
from typing import Final, NamedTuple

from handcounter.pacing.schedule import CREDIT_PERIODS, TOLERANCE_S, Pacing, Reason, Schedule
from handcounter.pacing.schedule import decide as decide_in_order
from handcounter.pacing.times import RealTime, StreamTime

REORDER_WINDOW_S: Final = 0.25
"""Replicas are rarely further apart, and at 5 fps or less nothing is lost by reordering anyway."""

MOST_EARLIER: Final = 16
"""Bounds a trail. Above 64 admissions a second it makes the window shorter."""


class Trail(NamedTuple):
    """One stream's timing state, with the recent admissions among which a late frame may still fit."""

    schedule: Schedule
    """The state by the rule, which is all that frames in order need."""
    base: StreamTime = StreamTime(0.0)
    """The slot after the first of the earlier admissions, seconds by the stream's clock; meaningless without them."""
    earlier: tuple[StreamTime, ...] = ()
    """The ts of the admissions before schedule.last_ts, at most REORDER_WINDOW_S before it, ascending."""


def decide(
    trail: Trail | None, ts: StreamTime, fps: float, now: RealTime, pacing: Pacing = Pacing.GCRA
) -> tuple[Reason, Trail | None]:
    """Decides one frame. The arguments are those of :func:`schedule.decide`.

    Returns:
        The reason, and the trail to keep: the very object that was passed in, unless the frame was admitted.
    """
    if trail is None:
        reason, schedule = decide_in_order(None, ts, fps, now, pacing)
        return reason, None if schedule is None else Trail(schedule)
    if fps != 0.0 and trail.earlier and trail.earlier[0] <= ts < trail.schedule.last_ts:
        return _decide_between(trail, ts, 1.0 / fps, now, pacing)
    reason, schedule = decide_in_order(trail.schedule, ts, fps, now, pacing)
    if reason is not Reason.ADMITTED or schedule is None:
        return reason, trail
    if ts < trail.schedule.last_ts:
        return reason, Trail(schedule)  # the stream's clock was restarted
    return reason, _append(trail, schedule, 1.0 / fps, pacing)


def takes_late_frames(trail: Trail, fps: float, pacing: Pacing = Pacing.GCRA) -> bool:
    """Returns whether any ts before the last admitted one would be admitted at this fps."""
    if fps == 0.0 or not trail.earlier:
        return False
    period = 1.0 / fps
    slot = trail.base
    for before, after in pairwise((*trail.earlier, trail.schedule.last_ts)):
        # The earliest due ts advances the later slots least: if that one isn't admitted here, none is.
        ts = StreamTime(max(slot + period - TOLERANCE_S, math.nextafter(before, math.inf)))
        if ts < after and _decide_between(trail, ts, period, RealTime(0.0), pacing)[0] is Reason.ADMITTED:
            return True
        slot = _slot_after(slot, after, period, pacing)
    return False


def _decide_between(trail: Trail, ts: StreamTime, period: float, now: RealTime, pacing: Pacing) -> tuple[Reason, Trail]:
    """Decides a frame that is older than the last admitted one, but not older than all earlier ones."""
    schedule, base, earlier = trail
    if ts in earlier:
        return Reason.LATE, trail  # the rule's reason for every frame before the last admitted one
    slot, admitted = base, [earlier[0]]
    for after in (*earlier[1:], schedule.last_ts):
        for each in (ts, after) if admitted[-1] < ts < after else (after,):
            if each < slot + period - TOLERANCE_S:
                return Reason.LATE, trail
            slot = _slot_after(slot, each, period, pacing)
            admitted.append(each)
    del admitted[-1]
    while len(admitted) > MOST_EARLIER:
        base = _slot_after(base, admitted[1], period, pacing)
        del admitted[0]
    # If fps was raised in the meantime, the slot is already later than it follows from the new period.
    advanced = Schedule(max(schedule.slot, slot), schedule.last_ts, now)
    return Reason.ADMITTED, Trail(advanced, base, tuple(admitted))


def _append(trail: Trail, schedule: Schedule, period: float, pacing: Pacing) -> Trail:
    """Returns the trail after an admission in order."""
    before = trail.schedule
    earlier = (*trail.earlier, before.last_ts)
    base = trail.base if trail.earlier else before.slot
    oldest = schedule.last_ts - REORDER_WINDOW_S
    first = 0
    while first < len(earlier) and (earlier[first] < oldest or len(earlier) - first > MOST_EARLIER):
        first += 1
        if first < len(earlier):
            base = _slot_after(base, earlier[first], period, pacing)
    return Trail(schedule, base, earlier[first:]) if first < len(earlier) else Trail(schedule)


def _slot_after(slot: StreamTime, ts: StreamTime, period: float, pacing: Pacing) -> StreamTime:
    """Returns the slot after an admission."""
    if pacing is Pacing.MIN_GAP:
        return ts
    return StreamTime(max(slot + period, ts - CREDIT_PERIODS * period))
