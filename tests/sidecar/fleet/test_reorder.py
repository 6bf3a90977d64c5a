"""The rule of the fleet, which admits some late frames: a table of cases, and laws."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handcounter.pacing import schedule
from handcounter.pacing.schedule import TOLERANCE_S, Pacing, Reason
from sidecar.fleet.reorder import MOST_EARLIER, REORDER_WINDOW_S, Trail, decide, takes_late_frames

A, S, P, D, L = Reason.ADMITTED, Reason.TOO_SOON, Reason.PAUSED, Reason.DUPLICATE, Reason.LATE

CASES = [
    ("in order, as the rule", 10, [(0.0, A), (0.05, S), (0.1, A), (0.2, A)]),
    ("the slot between two admissions", 10, [(0.0, A), (0.2, A), (0.1, A), (0.3, A)]),
    ("the slot is given once", 10, [(0.0, A), (0.2, A), (0.1, A), (0.15, L), (0.11, L), (0.25, S)]),
    ("too soon after the one before", 10, [(0.0, A), (0.2, A), (0.09, L), (0.1, A)]),
    ("every slot that was left out", 20, [(0.0, A), (0.05, A), (0.2, A), (0.15, A), (0.1, A), (0.12, L), (0.25, A)]),
    ("too late for the one after", 10, [(0.0, A), (0.1, A), (0.2, A), (0.15, L)]),
    ("what lateness was made up for is spent", 10, [(0.0, A), (0.24, A), (0.25, A), (0.1, L), (0.29, S)]),
    ("each admitted frame is remembered", 10, [(0.0, A), (0.2, A), (0.1, A), (0.1, L), (0.0, L), (0.2, D)]),
    ("before all that are remembered", 10, [(0.0, A), (0.1, A), (-0.01, L)]),
    ("older than the window", 2, [(0.0, A), (0.6, A), (0.5, L)]),
    ("lifted: all but duplicates", math.inf, [(0.0, A), (0.2, A), (0.1, A), (0.1, L), (0.15, A)]),
    ("paused", 0, [(0.0, P)]),
    ("a restarted clock forgets what was before", 10, [(9.0, A), (9.1, A), (1.0, A), (1.2, A), (1.1, A), (9.05, A)]),
]


def answers(fps: float, tss: Sequence[float], pacing: Pacing = Pacing.GCRA) -> list[Reason]:
    """Returns the answers to frames in this order, a minute of real time apart."""
    trail, reasons = None, []
    for number, ts in enumerate(tss):
        reason, trail = decide(trail, 1000.0 + ts, fps, 60.0 * number, pacing)
        reasons.append(reason)
    return reasons


@pytest.mark.parametrize(("fps", "frames"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases(fps, frames):
    """Each frame of the table gets its answer."""
    assert answers(fps, [ts for ts, _ in frames]) == [reason for _, reason in frames]


def test_min_gap_keeps_its_gap_on_both_sides():
    """With min-gap pacing a late frame needs a period before and after it."""
    assert answers(10, [0.0, 0.19, 0.1, 0.0901, 0.4, 0.29, 0.3], Pacing.MIN_GAP) == [A, A, L, L, A, A, L]


def test_a_lowered_limit_holds_late_frames_back():
    """Admissions at a higher limit leave no place at a lower one; a raised limit counts from now on."""
    _, trail = decide(None, 1.0, 30.0, 0.0)
    _, trail = decide(trail, 1.1, 30.0, 0.0)
    assert decide(trail, 1.05, 5.0, 0.0) == (L, trail)
    assert decide(trail, 1.05, 0.0, 0.0) == (P, trail)
    assert decide(trail, 1.05, 100.0, 0.0)[0] is A


def test_a_late_frame_never_sets_the_slot_back():
    """A limit that was raised later doesn't undo what earlier admissions used up."""
    _, trail = decide(None, 1.0, 5.0, 0.0)
    _, trail = decide(trail, 1.2, 5.0, 0.0)
    reason, after = decide(trail, 1.1, 100.0, 7.0)
    assert (reason, after.schedule) == (A, trail.schedule._replace(admitted_at=7.0))


FPS = st.one_of(st.floats(0.2, 60.0), st.sampled_from([0.25, 1.0, 5.0, 10.0, 15.0, 30.0, 1000.0, math.inf]))
PACINGS = st.sampled_from(Pacing)


RANDOMS = st.integers(0, 2**64 - 1).map(random.Random)
"""What draws histories: hypothesis itself would draw each number separately, and much shorter ones."""


def drawn_arrivals(choose: random.Random) -> list[float]:
    """Returns capture times in the order of arrival: of a camera with gaps, each frame late by up to the spread."""
    period, spread = 1 / choose.choice([10, 25, 30, 60, 200]), choose.choice([0.0, 0.03, 0.1, 0.3, 1.0])
    ts, frames = 1000.0, []
    for _ in range(choose.randint(1, 120)):
        ts += period * choose.choice([1, 1, 1, 1, 0.7, 1.3, 5, 30])
        frames.append((ts + choose.random() * spread, ts))
    return [ts for _, ts in sorted(frames)]


ARRIVALS = RANDOMS.map(drawn_arrivals)


def trails(tss: Sequence[float], fps: float, pacing: Pacing) -> list[tuple[Reason, Trail]]:
    """Returns the answers and the trails after them."""
    trail, result = None, []
    for ts in tss:
        reason, trail = decide(trail, ts, fps, 0.0, pacing)
        result.append((reason, trail))
    return result


@given(ARRIVALS, FPS, PACINGS)
def test_in_order_it_is_the_rule(tss, fps, pacing):
    """Frames that arrive in order get the answers and the schedules of schedule.decide."""
    expected = None
    for ts, (reason, trail) in zip(sorted(tss), trails(sorted(tss), fps, pacing), strict=True):
        decision = schedule.decide(expected, ts, fps, 0.0, pacing)
        expected = decision.schedule
        assert (reason, trail.schedule) == (decision.reason, expected)


@given(ARRIVALS, FPS, PACINGS)
def test_admitted_frames_are_a_history_of_the_rule(tss, fps, pacing):
    """In the order of their ts, the rule admits each of them, and ends with the same schedule."""
    check_history(tss, fps, pacing)


@given(RANDOMS, st.floats(80.0, 2000.0), PACINGS)
def test_trails_that_overflow_are_histories_of_the_rule(choose, fps, pacing):
    """It also holds if more frames than a trail has room for arrive in any order."""
    quarters = choose.sample(range(1001), choose.randint(20, 100))
    check_history([1000.0 + each / 4000.0 for each in quarters], fps, pacing)


def check_history(tss: Sequence[float], fps: float, pacing: Pacing) -> None:
    """Asserts that the rule allows the admitted frames."""
    decided = trails(tss, fps, pacing)
    expected = None
    for ts in sorted(ts for ts, (reason, _) in zip(tss, decided, strict=True) if reason is A):
        decision = schedule.decide(expected, ts, fps, 0.0, pacing)
        assert decision.admitted
        expected = decision.schedule
    assert decided[-1][1].schedule == expected


@given(ARRIVALS, FPS, PACINGS)
def test_denied_frames_change_nothing_and_trails_stay_short(tss, fps, pacing):
    """Only an admission creates a new trail, whose length is bounded."""
    before = None
    for reason, trail in trails(tss, fps, pacing):
        assert (trail is before) == (reason is not A)
        assert len(trail.earlier) <= MOST_EARLIER
        assert list(trail.earlier) == sorted(set(trail.earlier))
        assert all(0.0 < trail.schedule.last_ts - ts <= REORDER_WINDOW_S for ts in trail.earlier)
        before = trail


@given(RANDOMS, FPS, PACINGS)
def test_what_a_copy_denies_stays_denied(choose, fps, pacing):
    """A frame that an old trail denies is denied by each later one, so replicas may deny by copies of any age."""
    tss = drawn_arrivals(choose)
    decided = [trail for _, trail in trails(tss, fps, pacing)]
    old = choose.randrange(len(decided))
    since = decided[-1].schedule.last_ts - schedule.LATE_WINDOW_S  # before that its clock would have restarted
    between = choose.uniform(max(tss[0] - 1.0, since), tss[-1] + 1.0)
    ts = choose.choice([between, choose.choice([ts for ts in tss if ts >= since])])
    if decide(decided[old], ts, fps, 0.0, pacing)[0] is not A:
        assert all(decide(trail, ts, fps, 0.0, pacing)[0] is not A for trail in decided[old:])


@given(ARRIVALS, FPS, PACINGS)
def test_it_is_known_whether_late_frames_are_taken(tss, fps, pacing):
    """takes_late_frames is true iff some ts before the last admitted one would be admitted."""
    trail = trails(tss, fps, pacing)[-1][1]
    last_ts = trail.schedule.last_ts
    period = 1 / fps
    marks = [trail.base, trail.schedule.slot, *trail.earlier, *tss]
    marks = [mark for mark in marks if last_ts - 2.0 - 18 * period < mark < last_ts + 5 * period]
    tried = {mark + k * period + nudge for mark in marks for k in range(-4, 18) for nudge in (-1e-6, 0.0, 1e-9)}
    taken = [ts for ts in tried if last_ts - 2.0 < ts < last_ts and decide(trail, ts, fps, 0.0, pacing)[0] is A]
    assert bool(taken) == takes_late_frames(trail, fps, pacing)
    assert not takes_late_frames(trail, 0.0, pacing)


@settings(max_examples=60)
@given(
    st.sampled_from([15.0, 25.0, 30.0, 60.0]),
    st.sampled_from([0.5, 1 / 3]) | st.floats(0.02, 0.5),
    st.just(0.1) | st.floats(0.0, 0.1),
    st.integers(2, 8),
    st.integers(0, 2**32),
)
def test_rate_is_kept_whatever_the_skew(source, share, skew, replicas, seed):
    """Up to half the source and replicas 100 ms apart, a stream gets its fps within 1 % and 2 frames."""
    rnd = random.Random(seed)
    fps = share * source
    seconds = min(400 / fps, 120.0)
    late = [skew * place / (replicas - 1) for place in range(replicas)]
    tss = [1000.0 + number / source for number in range(int(seconds * source))]
    arrived = sorted((ts + rnd.choice(late), ts) for ts in tss)
    trail, admitted = None, 0
    for _, ts in arrived:
        reason, trail = decide(trail, ts, fps, 0.0)
        admitted += reason is A
    assert admitted == pytest.approx(seconds * fps, rel=0.01, abs=2)


def trail_of(fps: float, *tss: float) -> Trail | None:
    """Returns the trail after frames in this order, a minute of real time apart."""
    trail = None
    for number, ts in enumerate(tss):
        _, trail = decide(trail, ts, fps, 60.0 * number)
    return trail


def test_a_stream_that_was_always_paused_has_no_trail():
    """A denied first frame leaves nothing."""
    assert decide(None, 1.0, 0.0, 0.0) == (P, None)


class TestWhatATrailKeeps:
    """At fps without a limit every frame is admitted, so the base is the first of the earlier admissions."""

    FRAMES = tuple(10.0 + number / 128 for number in range(MOST_EARLIER + 1))

    def test_the_window_includes_its_end(self):
        """An admission exactly as old as the window is kept; one that is older isn't, nor is a base without any."""
        assert trail_of(math.inf, 1.0, 1.0 + REORDER_WINDOW_S).earlier == (1.0,)
        alone = trail_of(math.inf, 1.0, math.nextafter(1.0 + REORDER_WINDOW_S, 2.0))
        assert alone == Trail(alone.schedule)

    def test_no_more_than_the_most(self):
        """The last frame and as many before it as may be are kept; one more frame drops the oldest."""
        full = trail_of(math.inf, *self.FRAMES)
        assert (full.base, full.earlier) == (10.0, self.FRAMES[:-1])
        more = trail_of(math.inf, *self.FRAMES, 10.2)
        assert (more.base, more.earlier) == (self.FRAMES[1], self.FRAMES[1:])

    def test_what_is_too_old_leaves_room(self):
        """Of a dozen admissions five are older than the window; the others are kept."""
        recent = tuple(11.0 + number / 128 for number in range(7))
        assert trail_of(math.inf, 10.0, 10.1, 10.2, 10.3, 10.4, *recent, 11.1).earlier == recent

    def test_a_late_frame_fills_the_trail(self):
        """The late frame that makes it full drops nothing; the next one drops the oldest."""
        first, second, *others = self.FRAMES
        full = trail_of(math.inf, first, *others, second)
        assert (full.base, full.earlier) == (first, self.FRAMES[:-1])
        late = (first + second) / 2
        more = trail_of(math.inf, *self.FRAMES, late)
        assert (more.base, more.earlier) == (late, (late, *self.FRAMES[1:-1]))


@pytest.mark.parametrize(
    ("fps", "tss", "expected"),
    [
        (math.inf, (1.0, 1.0 + TOLERANCE_S / 2), True),  # the tolerance makes a frame due early, not late
        (10.0, (0.0, 0.1 - TOLERANCE_S), False),  # due at the very ts of the last admitted frame, which is a duplicate
        (10.0, (0.0, 0.2), True),
        (10.0, (0.0, 0.1), False),
    ],
)
def test_late_frames_are_taken_to_the_instant(fps, tss, expected):
    """A place between two admissions begins when a frame is due and ends before the later one."""
    assert takes_late_frames(trail_of(fps, *tss), fps) is expected
