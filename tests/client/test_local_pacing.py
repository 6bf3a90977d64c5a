"""Local pacing: what it learns from answers, and what it decides by them."""

import itertools
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handcounter.client.local_pacing import LocalPacing
from handcounter.pacing.schedule import Reason, decide, next_ts

YES, SOON, PAUSED, SAME, LATE = Reason.ADMITTED, Reason.TOO_SOON, Reason.PAUSED, Reason.DUPLICATE, Reason.LATE

CASES = {
    "an unknown stream has the default": (None, [(0.0, YES), (0.4, SOON), (0.5, YES)]),
    "an admission is continued from its slot": ((YES, 1.0, 10.7), [(10.6, SOON), (10.7, YES), (11.7, YES)]),
    "an admission without next_ts is continued from its ts": ((YES, 1.0, None), [(10.9, SOON), (11.0, YES)]),
    "an infinite next_ts says nothing about the slot": ((YES, 1.0, math.inf), [(10.9, SOON), (11.0, YES)]),
    "a denial says when the next frame is due": ((SOON, 1.0, 10.3), [(10.2, SOON), (10.3, YES), (11.3, YES)]),
    "a denial without next_ts counts as an admission": ((SOON, 1.0, None), [(10.5, SOON), (11.0, YES)]),
    "a paused stream stays paused": ((PAUSED, 0.0, math.inf), [(10.5, PAUSED), (1e9, PAUSED)]),
    "a stream without a limit has none here": ((YES, math.inf, 10.000001), [(10.0, SAME), (10.1, YES), (10.2, YES)]),
    "an admission with credit of which the answer can't tell how much": (
        (YES, 1.0, math.nextafter(10.0, math.inf)),
        [(10.2, YES), (10.9, SOON), (11.1, YES)],
    ),
    "an admission at an fps of 0 that a sidecar can't mean": ((YES, 0.0, 10.5), [(10.6, PAUSED)]),
}


@pytest.mark.parametrize(("answer", "rows"), CASES.values(), ids=CASES)
def test_decisions_after_an_answer(
    answer: tuple[Reason, float, float | None] | None, rows: list[tuple[float, Reason]]
) -> None:
    """The answer (reason, fps, next_ts) to the frame at 10.0, then frames that are decided here; the default is 2 fps."""
    local = LocalPacing(default_fps=2.0)
    if answer:
        reason, fps, due = answer
        local.learn([("cam", 10.0)], [reason], [fps], [due], 0.0)
    assert [(ts, local.decide([("cam", ts)], 0.0)[0]) for ts, _ in rows] == rows


def test_a_later_denial_keeps_the_schedule_and_updates_the_limit() -> None:
    """The schedule is that of the last admission; the limit is that of the last answer."""
    local = LocalPacing(default_fps=2.0)
    local.learn([("cam", 10.0), ("cam", 10.1)], [YES, SOON], [1.0, 10.0], [11.0, 10.11], 0.0)
    assert local.decide([("cam", 10.0), ("cam", 10.05), ("cam", 10.1)], 0.0) == [SAME, SOON, YES]


def test_the_streams_asked_about_longest_ago_are_forgotten() -> None:
    """Both answers and local decisions make a stream recent."""
    local = LocalPacing(default_fps=2.0, max_streams=2)
    local.learn([(name, 10.0) for name in "abc"], [PAUSED] * 3, [0.0] * 3, [math.inf] * 3, 0.0)
    assert local.stream_names == ["b", "c"]
    assert local.decide([("b", 11.0), ("a", 11.0)], 0.0) == [PAUSED, YES]
    assert local.stream_names == ["b", "a"]


STEPS = [0.0, 0.05, 0.05, 0.1, 0.3, 1.0, 7.5]
"""Of a stream's clock, seconds; after the longer ones it has credit."""


@given(st.integers(0, 2**64 - 1).map(Random), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.3, 1.0, 5.0]))
def test_losing_the_sidecar_changes_no_decision(choose: Random, count: int, lost_at: int, fps: float) -> None:
    """Of any history, the decisions after the loss are those of one schedule without a loss.

    But if credit lets the next frame through at once, the last answer doesn't tell how much credit there is: then at most
    one admission of it is lost.
    """
    local, schedule, due, missing = LocalPacing(default_fps=1e-9), None, 0.0, 0
    for number, ts in enumerate(itertools.accumulate(choose.choices(STEPS, k=count))):
        expected, schedule = decide(schedule, ts, fps, 0.0)
        if number < lost_at:
            due = next_ts(schedule, fps)
            local.learn([("cam", ts)], [expected], [fps], [due], 0.0)
            at_once = due == math.nextafter(schedule.last_ts, math.inf)
        else:
            (decided,) = local.decide([("cam", ts)], 0.0)
            missing += (expected is YES) - (decided is YES)
            assert 0 <= missing <= at_once
            assert decided == expected or (at_once and SOON in (decided, expected))
