"""Laws of the decision, which hold for every history of a stream."""

import itertools
import math
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from handcounter.pacing.schedule import CREDIT_PERIODS, LATE_WINDOW_S, TOLERANCE_S, Pacing, Reason, decide, next_ts

BURST = 1 + CREDIT_PERIODS
PACINGS = st.sampled_from(Pacing)
FPS = st.one_of(st.floats(0.01, 100.0), st.sampled_from([0.2, 1.0, 20.0, 30.0]))
RANDOMS = st.integers(0, 2**64 - 1).map(Random)
"""What draws a history: hypothesis itself would take a hundred times as long for one of this length."""
COUNTS = st.integers(0, 120)

ODD_STEPS = [(-1.9, 0.0), (-500.0, -2.1), (5.0, 500.0)]
"""Late, restarted and far ahead."""


def drawn_steps(choose, count, period, *, odd=True):
    """Draws the steps of a stream's clock: mostly forward by a few frames or periods or not at all, some of them odd."""
    exact = [0.0, 0.0, 1 / 30, 0.1, 1.0, period, period - TOLERANCE_S, period + TOLERANCE_S, 1.5 * period, 3.5 * period]
    forward = [(0.0, 0.2), (0.0, 5.0), (0.0, 2.0 * period)] * 4 + [(max(step, 0.0),) * 2 for step in exact]
    share = choose.choice([0.0, 0.03, 0.3]) if odd else 0.0
    return [choose.uniform(*choose.choice(ODD_STEPS if choose.random() < share else forward)) for _ in range(count)]


def drawn_gaps(choose, count):
    """Draws the seconds of real time between frames."""
    return [choose.uniform(0.0, choose.choice([0.0, 0.1, 3.0])) for _ in range(count)]


def admissions(stamps, fps, pacing, times=None):
    """Decides all frames; returns the admitted ones as (index, ts, restarted)."""
    schedule, admitted = None, []
    for index, ts in enumerate(stamps):
        restarted = schedule is not None and ts < schedule.last_ts
        reason, schedule = decide(schedule, ts, fps, times[index] if times else 0.0, pacing)
        if reason is Reason.ADMITTED:
            admitted.append((index, ts, restarted))
    return admitted


def walk(start, steps):
    """Returns the stamps of a clock with these steps, never below zero."""
    stamps = [start]
    for step in steps:
        stamps.append(max(0.0, stamps[-1] + step))
    return stamps


@given(FPS, st.floats(0.0, 2e9), COUNTS, RANDOMS)
def test_gcra_never_admits_more_than_the_rate_and_its_burst(fps, start, count, choose):
    """In any W seconds of stream time at most W * fps + 2.5 are admitted, plus one for each restart of the clock."""
    stamps = walk(start, drawn_steps(choose, count, 1 / fps))
    times = list(itertools.accumulate(drawn_gaps(choose, len(stamps))))
    stream_time, elapsed = [0.0], 0.0
    for earlier, later in itertools.pairwise(stamps):
        elapsed += max(0.0, later - earlier)
        stream_time.append(elapsed)
    # Doubles near 2e9 are 2.4e-7 apart: each step of the sum may be off by that much, in addition to the tolerance.
    slack = (TOLERANCE_S + (len(stamps) + 2) * math.ulp(max(stamps))) * fps
    admitted = [(stream_time[index], restarted) for index, _, restarted in admissions(stamps, fps, Pacing.GCRA, times)]
    for first, (since, _) in enumerate(admitted):
        allowed = BURST + slack
        for number, (until, restarted) in enumerate(admitted[first:], 1):
            allowed += number > 1 and restarted
            assert number <= (until - since) * fps + allowed


@given(PACINGS, FPS, COUNTS, RANDOMS)
def test_a_clock_that_goes_back_adds_at_most_one_frame_per_period_of_real_time(pacing, fps, count, choose):
    """Admissions that restart the clock come at least a period of real time after the admission before them."""
    stamps = walk(1000.0, drawn_steps(choose, count, 1 / fps))
    times = list(itertools.accumulate(drawn_gaps(choose, count), initial=0.0))
    admitted = admissions(stamps, fps, pacing, times)
    for (before, _, _), (index, _, restarted) in itertools.pairwise(admitted):
        if restarted:
            assert times[index] - times[before] >= 1 / fps - 2 * TOLERANCE_S


@given(FPS, COUNTS, RANDOMS)
def test_min_gap_keeps_a_period_between_admissions(fps, count, choose):
    """No two admissions of one clock are closer than a period."""
    admitted = admissions(walk(1000.0, drawn_steps(choose, count, 1 / fps)), fps, Pacing.MIN_GAP, None)
    for (_, earlier, _), (_, later, restarted) in itertools.pairwise(admitted):
        if not restarted:
            assert later - earlier >= 1 / fps - 2 * TOLERANCE_S


@given(PACINGS, st.lists(FPS, min_size=1, max_size=5), COUNTS, RANDOMS)
def test_a_denied_frame_changes_nothing(pacing, some_fps, count, choose):
    """Without the denied frames, the admissions are the same."""
    stamps = walk(1000.0, drawn_steps(choose, count, 1 / some_fps[0]))
    limits = [1.0, *choose.choices([*some_fps, *some_fps, 0.0, math.inf], k=count)]
    schedule, kept = None, []
    for now, (ts, fps) in enumerate(zip(stamps, limits, strict=True)):
        before = schedule
        reason, schedule = decide(before, ts, fps, now / 7, pacing)
        if reason is Reason.ADMITTED:
            kept.append((ts, fps, now / 7, schedule))
        else:
            assert schedule is before
    replayed = None
    for ts, fps, now, expected in kept:
        reason, replayed = decide(replayed, ts, fps, now, pacing)
        assert (reason, replayed) == (Reason.ADMITTED, expected)


@given(PACINGS, FPS, COUNTS, RANDOMS, FPS)
def test_next_ts_is_the_first_that_is_admitted(pacing, fps, count, choose, new_fps):
    """After any history and at any new fps, next_ts is admitted, and what precedes it by up to 2 s is not."""
    schedule = None
    for ts in walk(1000.0, drawn_steps(choose, count, 1 / fps)):
        _, schedule = decide(schedule, ts, fps, 0.0, pacing)
    due = next_ts(schedule, new_fps)
    assume(due < 1e11)
    assert decide(schedule, due, new_fps, 0.0, pacing).admitted
    for early in (math.nextafter(due, -math.inf), schedule.last_ts, schedule.last_ts - LATE_WINDOW_S):
        assert not decide(schedule, early, new_fps, 0.0, pacing).admitted


@given(PACINGS, FPS, FPS, COUNTS, RANDOMS)
def test_a_change_of_fps_acts_on_the_next_frame(pacing, old_fps, new_fps, count, choose):
    """After a change the next frame is never due later than one new period after the last admitted one."""
    schedule = None
    for ts in walk(1000.0, drawn_steps(choose, count, 1 / old_fps, odd=False)):
        _, schedule = decide(schedule, ts, old_fps, 0.0, pacing)
    assert decide(schedule, schedule.last_ts + 1 / new_fps, new_fps, 0.0, pacing).admitted
    if pacing is Pacing.MIN_GAP:
        too_soon = schedule.last_ts + 0.99 / new_fps - 2 * TOLERANCE_S
        assert not decide(schedule, too_soon, new_fps, 0.0, pacing).admitted


def jittered(source_fps, count, jitter, phase, quantum):
    """Returns the stamps of a source on a fixed grid, each moved by its jitter (a share of the period), then rounded."""
    stamps = [phase + (index + moved) / source_fps for index, moved in zip(range(count), jitter, strict=False)]
    return [round(ts / quantum) * quantum for ts in stamps] if quantum else stamps


def count_of_admissions(stamps, fps):
    """Decides all frames of a clock that only goes forward; returns how many were admitted."""
    schedule, count = None, 0
    for ts in stamps:
        reason, schedule = decide(schedule, ts, fps, 0.0)
        if reason is Reason.ADMITTED:
            count += 1
    return count


@given(
    source_fps=st.one_of(st.floats(10.0, 60.0), st.sampled_from([10.0, 15.0, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])),
    amplitude=st.sampled_from([0.0, 0.1, 0.25]),
    alternating=st.booleans(),
    quantum=st.sampled_from([0.0, 0.001, 0.01]),
    phase=st.floats(0.0, 1e9),
    choose=RANDOMS,
)
def test_gcra_achieves_the_target(source_fps, amplitude, alternating, quantum, phase, choose):
    """Over at least 400 target periods the admissions are within 1 % + 2 frames of min(source, target)."""
    # Drawn by hypothesis, a third of the shares would be 0, which takes the most frames by far.
    share = choose.choice([0.0, 0.97, 0.99, 0.999, 1.0] + [choose.random()] * 15)
    target = min(30.0, 0.2 + share * (source_fps - 0.2))
    count = math.ceil(400 / target * source_fps) + 1
    if alternating or amplitude == 0.0:
        jitter = itertools.cycle([-amplitude, amplitude])
    else:
        jitter = (choose.uniform(-amplitude, amplitude) for _ in itertools.count())
    admitted = count_of_admissions(jittered(source_fps, count, jitter, phase, quantum), target)
    expected = min(source_fps, target) * (count - 1) / source_fps
    assert abs(admitted - expected) <= 0.01 * expected + 2


@pytest.mark.parametrize("source_fps", [10.0, 15.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize("target_share", [1.0, 0.999, 0.98, 2 / 3, 0.5, 0.1])
@pytest.mark.parametrize("alternating", [0.0, 0.25])
def test_gcra_achieves_the_target_near_the_source(source_fps, target_share, alternating):
    """The worst known cases reach the target, too: alternating jitter at and just below the source's rate."""
    target = source_fps * target_share
    count = math.ceil(400 / target * source_fps) + 1
    stamps = jittered(source_fps, count, itertools.cycle([-alternating, alternating]), 0.0, 0.0)
    expected = target * (count - 1) / source_fps
    assert abs(count_of_admissions(stamps, target) - expected) <= 0.01 * expected + 2
