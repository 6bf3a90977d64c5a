"""Pod scope: decisions over many streams, in batches, and the leases that they grant."""

import itertools
import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.coroutines import run
from support.models.sidecar_world import World

from handcounter.pacing import schedule
from handcounter.pacing.limits import FpsSource
from handcounter.pacing.schedule import ANY_TIME, NEVER, Pacing, Reason, Schedule
from handcounter.pacing.times import RealTime


def drawn_frames(count: int, seed: int) -> list[tuple[str, float]]:
    """Draws frames of a few streams, in any order; hypothesis itself would draw only a few for most histories."""
    choose = random.Random(seed)
    return [(choose.choice("abcde"), 100 + choose.randint(0, 400) / 20) for _ in range(count)]


FRAMES = st.builds(drawn_frames, st.integers(0, 60), st.integers(0, 2**64 - 1))
LIMITS = {"a": b"0", "b": b"inf", "c": b"10", "d": b"0.3"}


def test_an_unknown_stream_is_decided_at_the_default() -> None:
    """The first frame is admitted; the answer names the default and when the next frame is due."""
    world = World(default=2.0)
    reason, limit, next_ts = world.decide("cam1", 10.0, 1000.0)
    assert reason is Reason.ADMITTED
    assert limit == (2.0, FpsSource.DEFAULT)
    assert next_ts == pytest.approx(10.5, abs=1e-5)


def test_a_change_of_the_table_acts_on_the_next_frame() -> None:
    """A limit that is raised, set to 0 and lifted is in force for the very next decision."""
    world = World(default=1.0)
    decide = world.decide
    assert decide("a", 10.0, 0.0)[0] is Reason.ADMITTED
    assert decide("a", 10.1, 0.1)[0] is Reason.TOO_SOON
    world.set("a", "10")
    assert decide("a", 10.1, 0.1) == (Reason.ADMITTED, (10.0, FpsSource.OVERRIDE), pytest.approx(10.2, abs=1e-5))
    world.set("a", "0")
    assert decide("a", 99.0, 1.0) == (Reason.PAUSED, (0.0, FpsSource.OVERRIDE), math.inf)
    world.set("a", "inf")
    assert decide("a", 99.001, 1.0)[0] is Reason.ADMITTED


def test_a_change_acts_on_a_frame_that_was_certain_to_be_denied() -> None:
    """Between two admissions of a watched stream each frame is denied and recorded until its limit changes."""
    world = World()
    world.set("a", "1")
    decide = world.decide
    assert decide("a", 10.0, 1000.0)[0] is Reason.ADMITTED
    assert decide("a", 10.1, 1000.1)[0] is Reason.TOO_SOON
    stream = world.roster.streams.get("a")
    assert stream is not None
    assert (stream.heard_ts, stream.heard_at, stream.denied, stream.last_reason) == (10.1, 1000.1, 1, Reason.TOO_SOON)
    assert decide("a", 9.9, 1000.1)[0] is Reason.LATE
    world.set("a", "10")
    assert decide("a", 10.11, 1000.2) == (Reason.ADMITTED, (10.0, FpsSource.OVERRIDE), pytest.approx(10.2, abs=1e-5))


CHANGES = {
    "another value": lambda world: world.table.store(["a"], [b"10"]),
    "its own value": lambda world: world.table.store(["a"], [b"1"]),
    "no value": lambda world: world.table.store(["a"], [None]),
    "a bad value": lambda world: world.table.store(["a"], [b"abc"]),
    "a pause": lambda world: world.table.store(["a"], [b"0"]),
    "the wildcard": lambda world: world.table.store_wildcard(b"10"),
    "sleep": lambda world: world.table.put_to_sleep("a"),
    "oblivion": lambda world: world.table.forget("a"),
    "another stream's value": lambda world: world.table.store(["b"], [b"30"]),
}


@pytest.mark.parametrize("own", [b"0.5", None])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_acts_on_the_next_batch(own: bytes | None, change: str) -> None:
    """After any change of the table the next batch answers as a full decision does, also for an early frame."""
    one, batch = World(default=2.0), World(default=2.0)
    for world in (one, batch):
        world.table.store(["a", "b"], [own, None])
        world.decide_all(["a", "a"], [10.0, 10.05], 1000.0)
        CHANGES[change](world)
    answers = batch.decide_all(["a", "a"], [10.15, 10.3], 1000.2)
    expected = [one.decide("a", ts, 1000.2) for ts in (10.15, 10.3)]
    assert answers.reasons == [reason for reason, _, _ in expected]
    assert answers.fps == [limit.fps for _, limit, _ in expected]
    assert answers.next_ts == [next_ts for _, _, next_ts in expected]


@given(FRAMES, st.lists(st.integers(0, 59), max_size=6), st.sampled_from(Pacing), st.integers(1, 6))
def test_one_batch_answers_as_one_by_one(
    frames: list[tuple[str, float]], cuts: list[int], pacing: Pacing, max_streams: int
) -> None:
    """However frames are cut into batches, the answers, the counters and the streams kept are the same."""
    singles, batches = World(2.0, max_streams, pacing), World(2.0, max_streams, pacing)
    for world in (singles, batches):
        world.table.store(list("abcde"), [LIMITS.get(name) for name in "abcde"])
    one_by_one = [singles.decide(name, ts, 1000.0) for name, ts in frames]
    edges = [0, *sorted(cuts), len(frames)]
    cut: list[tuple[Reason, float, float]] = []
    for start, end in itertools.pairwise(edges):
        part = frames[start:end]
        answers = batches.decide_all([name for name, _ in part], [ts for _, ts in part], 1000.0)
        assert answers.should_process == [reason is Reason.ADMITTED for reason in answers.reasons]
        cut += zip(answers.reasons, answers.fps, answers.next_ts, strict=True)
    assert cut == [(reason, limit.fps, next_ts) for reason, limit, next_ts in one_by_one]
    assert singles.roster.decisions == batches.roster.decisions
    one, other = (
        [
            (stream.name, stream.admitted, stream.denied, stream.heard_ts, stream.last_reason)
            for stream in kept.snapshot()
        ]
        for kept in (singles.roster, batches.roster)
    )
    assert one == other


@example([("e", 100.0), ("e", 100.1)], Pacing.GCRA, 6).via("certain to be denied")
@given(FRAMES, st.sampled_from(Pacing), st.integers(1, 6))
def test_one_frame_is_decided_as_a_batch_of_one(
    frames: list[tuple[str, float]], pacing: Pacing, max_streams: int
) -> None:
    """Whatever the streams, the limits and the room: the answers, the counters and the streams kept are the same."""
    one, batch = World(2.0, max_streams, pacing), World(2.0, max_streams, pacing)
    for world in (one, batch):
        world.table.store(list("abcde"), [LIMITS.get(name) for name in "abcde"])
    for now, (name, ts) in enumerate(frames, 1000):
        answer, columns = run(one.decider.decide_one(name, ts, RealTime(now))), batch.decide_all([name], [ts], now)
        assert answer.limit == batch.table.limit(name)
        assert columns[:5] == (
            [answer.should_process],
            [answer.reason],
            [answer.limit.fps],
            [answer.next_ts],
            answer.stale,
        )
    assert one.roster.decisions == batch.roster.decisions
    kept = [
        [
            (stream.name, stream.admitted, stream.denied, stream.heard_at, stream.heard_ts, stream.last_reason)
            for stream in world.roster.snapshot()
        ]
        for world in (one, batch)
    ]
    assert kept[0] == kept[1]


def test_an_evicted_stream_keeps_its_limit_within_the_batch() -> None:
    """A stream that is evicted and comes back in one batch is still decided at its own limit."""
    world = World(default=1.0, max_streams=1)
    world.set("a", "inf")
    world.set("b", "inf")
    answers = world.decide_all(["a", "b", "a"], [1.0, 1.0, 2.0], 1000.0)
    assert answers.fps == [math.inf] * 3
    assert answers.should_process == [True] * 3


def test_a_stream_that_is_evicted_in_the_middle_of_a_batch_is_gone() -> None:
    """A known stream that an earlier frame of the batch pushed out is decided as one without a schedule."""
    one, batch = World(default=0.5, max_streams=1), World(default=0.5, max_streams=1)
    for world in (one, batch):
        world.decide_all(["a", "b"], [10.0, 10.0], 1000.0)
        world.table.assume(["a", "b"])
        world.decide("a", 10.5, 1000.5)
    answers = batch.decide_all(["b", "a"], [20.0, 10.7], 1003.0)
    expected = [one.decide(name, ts, 1003.0) for name, ts in (("b", 20.0), ("a", 10.7))]
    assert list(zip(answers.reasons, answers.next_ts, strict=True)) == [(reason, due) for reason, _, due in expected]
    assert (batch.roster.refused, batch.roster.evicted) == (one.roster.refused, one.roster.evicted) == (2, 1)


@given(FRAMES, st.sampled_from(Pacing), st.lists(st.sampled_from([b"0", b"1", b"7", None]), min_size=1))
def test_answers_are_those_of_the_rule(frames: list[tuple[str, float]], pacing: Pacing, limits: list[bytes]) -> None:
    """Whatever the limits change to, each stream's frames are decided by the rule alone, at the limit in force."""
    world = World(default=2.0, pacing=pacing)
    world.table.store(list("abcde"), [LIMITS.get(name) for name in "abcde"])
    expected: dict[str, Schedule | None] = {}
    for number, (name, ts) in enumerate(frames):
        now = 1000.0 + number
        world.table.store(["c"], [limits[number % len(limits)]])
        answers = world.decide_all([name], [ts], now)
        fps = world.table.fps(name)
        reason, expected[name] = schedule.decide(expected.get(name), ts, fps, now, pacing)
        assert answers[:5] == (
            [reason is Reason.ADMITTED],
            [reason],
            [fps],
            [schedule.next_ts(expected[name], fps)],
            True,
        )


@pytest.mark.parametrize("read_again", [False, True])
def test_a_lease_is_what_is_certain_of_a_stream(read_again: bool) -> None:
    """It reaches from the last admitted ts to next_ts; a paused stream's is infinite. A changed limit changes it at once."""
    world = World(default=2.0)
    world.table.store(["a", "b", "off"], [b"4", None, b"0"])
    world.decide_all(["a", "b", "off", "a"], [10.0, 10.0, 10.0, 10.1], 1000.0)
    if read_again:
        world.table.store(["other"], [None])
        world.table.store(["other"], [b"1"])  # another version of the table
    due = [schedule.next_ts(Schedule(10.0, 10.0, 1000.0), fps) for fps in (4.0, 2.0)]
    names = ["a", "b", "off"]
    assert world.decider.leases(names) == [(10.0, due[0]), (10.0, due[1]), (None, NEVER)]
    world.table.store(["a", "off"], [b"0", b"1"])
    assert world.decider.leases(names) == [(10.0, NEVER), (10.0, due[1]), None]


def test_no_lease_where_a_change_would_go_unnoticed() -> None:
    """That is, on a stream whose limit isn't watched, and on one without a schedule."""
    world = World(default=2.0, max_streams=1)
    world.table.assume(["a", "b"])
    world.decide_all(["a", "b"], [10.0, 10.0], 1000.0)
    assert [lease is not None for lease in world.decider.leases(["a", "b", "never seen"])] == [True, False, False]
    world.table.put_to_sleep("a")
    assert world.decider.leases(["a"]) == [None]


def test_a_refused_frame_has_no_next_ts() -> None:
    """There is no schedule to compute it from."""
    world = World(default=2.0, max_streams=1)
    answers = world.decide_all(["a", "b"], [10.0, 10.0], 1000.0)
    assert answers.reasons == [Reason.ADMITTED, Reason.TOO_SOON]
    assert answers.next_ts[1] == ANY_TIME
    assert world.roster.decisions[Reason.TOO_SOON] == world.roster.refused == 1


def test_an_admission_revokes_the_leases_on_its_stream() -> None:
    """A denied frame revokes none."""

    class Holder:
        leased = ("a", "b")

        def __init__(self) -> None:
            self.revoked: list[str] = []

        def revoke(self, stream_name: str) -> None:
            self.revoked.append(stream_name)

    world, holder = World(), Holder()
    world.decide_all(["a", "b"], [10.0, 10.0], 1000.0)
    world.leases.open(holder)
    world.decide_all(["a", "b", "a"], [10.5, 11.0, 10.6], 1000.0)
    assert holder.revoked == ["b"]
