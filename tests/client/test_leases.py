"""Leases: which frames they deny, and what is reported about them."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from handcounter.client.leases import Leases
from handcounter.pacing.schedule import Pacing, Reason, Schedule, decide, next_ts


@given(
    st.integers(0, 20),
    st.integers(0, 2**64 - 1),
    st.sampled_from([0.0, 0.3, 1.0, 5.0, 30.0, math.inf]),
    st.sampled_from(Pacing),
)
def test_a_lease_denies_what_the_rule_denies_and_nothing_else(
    count: int, seed: int, fps: float, pacing: Pacing
) -> None:
    """In any state a frame is denied for the rule's reason or not at all, and no frame before next_ts must be asked about."""
    choose = random.Random(seed)
    longest = choose.choice([20, 400, 4000])
    history = [choose.randint(0, longest) / 100 for _ in range(count)]
    schedule: Schedule | None = None
    for now, earlier in enumerate(history):
        schedule = decide(schedule, earlier, 5.0, now * 100.0, pacing).schedule
    leases = Leases()
    due = next_ts(schedule, fps) if schedule is not None or fps == 0.0 else None
    edges = [schedule.last_ts + step for step in (-2.3, -2.0, -1.9, -0.1, 0.0, 0.1)] if schedule else []
    ts = choose.choice([choose.randint(0, longest) / 100, *edges, *([due] if due and math.isfinite(due) else [])])
    leases.grant("cam", fps=fps, last_ts=schedule.last_ts if schedule else 0.0, next_ts=due)
    (reason,), uncovered = leases.deny([("cam", ts)], 0.0)
    expected, after = decide(schedule, ts, fps, 1e9, pacing)
    if reason is None:
        assert uncovered == [0]
        assert after is not schedule or (schedule is not None and ts < schedule.last_ts - 2.0)
        assert len(leases) == 0
    else:
        assert uncovered == []
        assert reason is expected
        assert after is schedule


def test_a_frame_outside_its_lease_ends_it() -> None:
    """Its stream's later frames depend on the answer to it; the leases of other streams stay."""
    leases = Leases()
    for name in "ab":
        leases.grant(name, fps=1.0, last_ts=10.0, next_ts=11.0)
    reasons, uncovered = leases.deny([("a", 10.5), ("a", 11.0), ("a", 10.5), ("b", 10.5), ("c", 1.0)], 0.0)
    assert reasons == [Reason.TOO_SOON, None, None, Reason.TOO_SOON, None]
    assert uncovered == [1, 2, 4]


def test_an_answer_without_a_lease_ends_the_old_one() -> None:
    """As for a stream that the sidecar had no room for."""
    leases = Leases()
    leases.grant("cam", fps=0.0, last_ts=0.0, next_ts=math.inf)
    leases.grant("cam", fps=0.0, last_ts=0.0, next_ts=None)
    assert len(leases) == 0


def test_a_lease_says_whether_its_stream_is_paused() -> None:
    """A stream without one may be either."""
    leases = Leases()
    leases.grant("off", fps=0.0, last_ts=0.0, next_ts=math.inf)
    leases.grant("on", fps=1.0, last_ts=10.0, next_ts=11.0)
    leases.grant("none", fps=0.0, last_ts=0.0, next_ts=None)
    assert leases.are_paused(["off", "on", "none", "other"]) == ({"off"}, ["none", "other"])


def test_dropped_leases_deny_nothing() -> None:
    """Some leases or all can be dropped; unknown names don't matter."""
    leases = Leases()
    for name in "abc":
        leases.grant(name, fps=1.0, last_ts=10.0, next_ts=11.0)
    leases.drop(["a", "unknown"])
    assert leases.deny([(name, 10.5) for name in "abc"], 0.0)[1] == [0]
    leases.drop_all()
    assert leases.deny([(name, 10.5) for name in "abc"], 0.0)[1] == [0, 1, 2]


def test_the_oldest_leases_make_room() -> None:
    """So that memory is bounded."""
    leases = Leases(max_streams=3)
    for name in "abcad":
        leases.grant(name, fps=1.0, last_ts=10.0, next_ts=11.0)
    reasons, _ = leases.deny([(name, 10.5) for name in "abcd"], 0.0)
    assert reasons == [Reason.TOO_SOON, None, Reason.TOO_SOON, Reason.TOO_SOON]


def test_denials_are_reported_once() -> None:
    """By stream, also those by leases that were dropped or replaced, and as many streams at a time as are asked for."""
    leases = Leases()
    for name in "abc":
        leases.grant(name, fps=1.0, last_ts=10.0, next_ts=11.0)
    leases.deny([("a", 10.5), ("b", 10.0), ("a", 9.0), ("c", 10.9)], 100.0)
    leases.drop("a")
    leases.grant("b", fps=0.0, last_ts=10.0, next_ts=math.inf)
    leases.deny([("b", 500.0)], 101.0)
    first = leases.take_denials(103.0, 2)
    assert first == [
        ("a", [0, 0, 1, 0, 0, 1], 9.0, Reason.LATE, 3.0),
        ("b", [0, 0, 0, 1, 1, 0], 500.0, Reason.PAUSED, 2.0),
    ]
    assert [denials.stream_name for denials in leases.take_denials(103.0)] == ["c"]
    assert leases.take_denials(103.0) == []
    leases.deny([("c", 10.95)], 104.0)
    assert leases.take_denials(104.0) == [("c", [0, 0, 1, 0, 0, 0], 10.95, Reason.TOO_SOON, 0.0)]
