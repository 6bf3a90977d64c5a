"""The limiter: decisions over many streams, the counts, eviction."""

import itertools
import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models.sidecar_world import World

from handcounter.pacing.schedule import Pacing, Reason
from sidecar.deciding.limiter import ACTIVE_S, CORRECTIONS_PER_EVICTION
from sidecar.limits.values import FpsSource

FRAMES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", "e"]), st.integers(0, 400).map(lambda n: 100 + n / 20)), max_size=60
)


def test_an_unknown_stream_is_decided_at_the_default() -> None:
    """The first frame is admitted; the answer names the default and when the next frame is due."""
    limiter = World(default=2.0).limiter
    reason, limit, next_ts = limiter.decide("cam1", 10.0, 1000.0)
    assert reason is Reason.ADMITTED
    assert limit == (2.0, FpsSource.DEFAULT)
    assert next_ts == pytest.approx(10.5, abs=1e-5)


def test_a_change_of_the_table_acts_on_the_next_frame() -> None:
    """A limit that was raised, cut to 0 and lifted holds for the very next decision."""
    world = World(default=1.0)
    decide = world.limiter.decide
    assert decide("a", 10.0, 0.0)[0] is Reason.ADMITTED
    assert decide("a", 10.1, 0.1)[0] is Reason.TOO_SOON
    world.set("a", "10")
    assert decide("a", 10.1, 0.1) == (Reason.ADMITTED, (10.0, FpsSource.OVERRIDE), pytest.approx(10.2, abs=1e-5))
    world.set("a", "0")
    assert decide("a", 99.0, 1.0) == (Reason.PAUSED, (0.0, FpsSource.OVERRIDE), math.inf)
    world.set("a", "inf")
    assert decide("a", 99.001, 1.0)[0] is Reason.ADMITTED


def test_a_change_acts_on_a_frame_that_was_certain_to_be_denied() -> None:
    """Between two admissions of a watched stream each frame is denied, and heard, until the very change of its limit."""
    world = World()
    world.set("a", "1")
    decide = world.limiter.decide
    assert decide("a", 10.0, 1000.0)[0] is Reason.ADMITTED
    assert decide("a", 10.1, 1000.1)[0] is Reason.TOO_SOON
    stream = world.limiter.stream("a")
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
    "the wrong type": lambda world: world.table.clear(),
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
        world.limiter.decide_all(["a", "a"], [10.0, 10.05], 1000.0)
        CHANGES[change](world)
    answers = batch.limiter.decide_all(["a", "a"], [10.15, 10.3], 1000.2)
    told = [one.limiter.decide("a", ts, 1000.2) for ts in (10.15, 10.3)]
    assert answers.reasons == [reason for reason, _, _ in told]
    assert answers.fps == [limit.fps for _, limit, _ in told]
    assert answers.next_ts == [next_ts for _, _, next_ts in told]


@given(FRAMES, st.lists(st.integers(0, 59), max_size=6), st.sampled_from(Pacing), st.integers(1, 6))
def test_one_batch_answers_as_one_by_one(
    frames: list[tuple[str, float]], cuts: list[int], pacing: Pacing, max_streams: int
) -> None:
    """However frames are cut into batches, the answers, the counters and the streams kept are the same."""
    limits = {"a": b"0", "b": b"inf", "c": b"10", "d": b"0.3"}
    singles, batches = World(2.0, max_streams, pacing), World(2.0, max_streams, pacing)
    for world in (singles, batches):
        world.table.store(list("abcde"), [limits.get(name) for name in "abcde"])
    one_by_one = [singles.limiter.decide(name, ts, 1000.0) for name, ts in frames]
    edges = [0, *sorted(cuts), len(frames)]
    cut: list[tuple[Reason, float, float]] = []
    for start, end in itertools.pairwise(edges):
        part = frames[start:end]
        answers = batches.limiter.decide_all([name for name, _ in part], [ts for _, ts in part], 1000.0)
        assert answers.should_process == [reason is Reason.ADMITTED for reason in answers.reasons]
        cut += zip(answers.reasons, answers.fps, answers.next_ts, strict=True)
    assert cut == [(reason, limit.fps, next_ts) for reason, limit, next_ts in one_by_one]
    assert singles.limiter.decisions == batches.limiter.decisions
    one, other = (
        [
            (stream.name, stream.admitted, stream.denied, stream.heard_ts, stream.last_reason)
            for stream in kept.streams()
        ]
        for kept in (singles.limiter, batches.limiter)
    )
    assert one == other


async def test_the_counts_are_those_of_the_answers() -> None:
    """What ListStreams and the metrics count is what was answered."""
    world = World(default=2.0)
    counts: dict[str, dict[bool, int]] = defaultdict(lambda: {True: 0, False: 0})
    for number in range(300):
        name = "abc"[number % 3]
        world.now = 1000 + number / 90
        reason, *_ = world.limiter.decide(name, number / 90, world.now)
        counts[name][reason is Reason.ADMITTED] += 1
    told = await world.limiter.list_streams("", "", 10)
    assert {status.stream_name: {True: status.admitted, False: status.denied} for status in told} == counts
    assert world.limiter.decisions[Reason.ADMITTED] == sum(count[True] for count in counts.values())
    assert sum(world.limiter.decisions) == 300


async def test_list_streams_tells_what_is_in_force() -> None:
    """A stream's status has its limit and source, the bad value, the last decision, next_ts and its rates."""
    world = World(default=5.0)
    world.redis = {"bad": b"fast", "own": b"2", "paused": b"0"}
    await world.limiter.prepare(["bad", "own", "paused", "plain"])
    for number in range(600):
        world.now = 1000 + number / 30
        world.limiter.decide_all(["bad", "own", "paused", "plain"], [50 + number / 30] * 4, world.now)
    bad, own, paused, plain = await world.limiter.list_streams("", "", 10)
    assert [status.stream_name for status in (bad, own, paused, plain)] == ["bad", "own", "paused", "plain"]
    assert (bad.fps, bad.fps_source, bad.invalid_value) == (5.0, FpsSource.DEFAULT, "fast")
    assert (own.fps, own.fps_source, own.invalid_value) == (2.0, FpsSource.OVERRIDE, "")
    assert own.achieved_fps == pytest.approx(2.0, rel=0.02)
    assert own.speed == pytest.approx(1.0, rel=0.02)
    assert own.last_reason is Reason.TOO_SOON
    assert own.next_ts == pytest.approx(own.last_ts + 0.5, abs=0.05)
    assert (paused.admitted, paused.denied, paused.achieved_fps) == (0, 600, 0.0)
    assert (paused.last_reason, paused.last_ts, paused.next_ts) == (Reason.PAUSED, 0.0, math.inf)
    assert plain.achieved_fps == pytest.approx(5.0, rel=0.02)
    assert plain.stale  # nobody said that Redis is there


async def test_a_resumed_stream_without_an_admission_would_be_admitted_at_any_ts() -> None:
    """next_ts of a stream that was only ever paused is 0 once it isn't: the contract's least ts."""
    world = World()
    world.set("a", "0")
    world.limiter.decide("a", 10.0, 1000.0)
    world.set("a", "1")
    assert [status.next_ts for status in await world.limiter.list_streams("", "", 1)] == [0.0]


async def test_list_streams_is_ordered_and_pages_by_name() -> None:
    """Pages follow the order of names, hold only the prefix's, and are complete while streams come in."""
    world = World()
    for number in (3, 1, 2, 11, 10):
        world.limiter.decide(f"cam{number}", 1.0, 1000.0)
    world.limiter.decide("door", 1.0, 1000.0)
    page = await world.limiter.list_streams("cam", "", 2)
    assert [status.stream_name for status in page] == ["cam1", "cam10"]
    world.limiter.decide("cam12", 1.0, 1000.0)
    page = await world.limiter.list_streams("cam", "cam10", 10)
    assert [status.stream_name for status in page] == ["cam11", "cam12", "cam2", "cam3"]
    assert await world.limiter.list_streams("cat", "", 10) == []


async def test_a_silent_stream_isnt_watched_but_listed_at_its_current_limit() -> None:
    """After a minute of silence a stream sleeps; to be listed, or to speak again, its value is read anew."""
    world = World()
    world.redis["a"] = b"5"
    await world.limiter.prepare(["a", "b"])
    world.limiter.decide_all(["a", "b"], [1.0, 1.0], world.now)
    world.limiter.decide("b", 2.0, world.now + ACTIVE_S)
    world.now += ACTIVE_S + 1
    world.limiter.sweep(world.now)
    assert world.limiter.unprepared(["a", "b"]) == ["a"]
    world.redis["a"] = b"7"
    assert [status.fps for status in await world.limiter.list_streams("a", "", 1)] == [7.0]


# Eviction.


def test_a_stream_is_evicted_only_after_its_hold() -> None:
    """With no room, a new stream is denied until the other has been silent for a period; then it is admitted."""
    world = World(default=0.5, max_streams=1)
    decide = world.limiter.decide
    assert decide("a", 10.0, 1000.0)[0] is Reason.ADMITTED
    assert decide("b", 10.0, 1001.9) == (Reason.TOO_SOON, (0.5, FpsSource.DEFAULT), 0.0)
    assert world.limiter.refused == 1
    assert decide("b", 10.0, 1002.0)[0] is Reason.ADMITTED
    assert (len(world.limiter), world.limiter.evicted) == (1, 1)


def test_a_denied_frame_counts_as_noise_too() -> None:
    """Silence is counted from the last frame, not from the last admission."""
    world = World(default=0.5, max_streams=1)
    world.limiter.decide("a", 10.0, 1000.0)
    world.limiter.decide("a", 10.5, 1001.0)
    assert world.limiter.decide("b", 10.0, 1002.5)[0] is Reason.TOO_SOON
    assert world.limiter.decide("b", 10.0, 1003.0)[0] is Reason.ADMITTED


@pytest.mark.parametrize("fps", ["0", "0.001"])
def test_nobody_holds_longer_than_a_minute(fps: str) -> None:
    """A paused or very slow stream may be evicted after 60 s of silence."""
    world = World(default=1.0, max_streams=1)
    world.set("slow", fps)
    world.limiter.decide("slow", 10.0, 1000.0)
    assert world.limiter.decide("b", 10.0, 1059.9)[0] is Reason.TOO_SOON
    assert world.limiter.decide("b", 10.0, 1060.0)[0] is Reason.ADMITTED


async def test_the_longest_silent_goes_first() -> None:
    """Of streams with the same fps the one silent the longest is evicted, whatever their age."""
    world = World(default=1.0, max_streams=3)
    for name, now in [("a", 1000.0), ("b", 1001.0), ("c", 1002.0), ("a", 1003.0), ("b", 1003.5)]:
        world.limiter.decide(name, now, now)
    for name, now in [("new1", 1005.0), ("new2", 1005.0)]:
        world.limiter.decide(name, now, now)
    told = await world.limiter.list_streams("", "", 10)
    assert [status.stream_name for status in told] == ["b", "new1", "new2"]


async def test_a_slow_stream_doesnt_keep_the_silent_fast_ones() -> None:
    """The one evictable stream is found behind older ones that aren't."""
    world = World(default=0.1, max_streams=4)
    world.set("fast", "30")
    for name in ("slow1", "slow2", "slow3", "fast"):
        world.limiter.decide(name, 10.0, 1000.0)
    assert world.limiter.decide("new", 10.0, 1001.0)[0] is Reason.ADMITTED
    assert "fast" not in [status.stream_name for status in await world.limiter.list_streams("", "", 10)]


def test_a_full_house_is_searched_bit_by_bit() -> None:
    """One new stream corrects 64 keys of the heap at most; the next attempts go on and find the evictable one."""
    streams = 3 * CORRECTIONS_PER_EVICTION
    world = World(default=1.0, max_streams=streams)
    names = [f"s{number:04d}" for number in range(streams)]
    world.limiter.decide_all(names, [10.0] * streams, 1000.0)
    world.limiter.decide_all(names[:-1], [11.5] * (streams - 1), 1001.5)
    verdicts = [world.limiter.decide("new", 20.0, 1001.6)[0] for _ in range(5)]
    assert verdicts[0] is Reason.TOO_SOON
    assert Reason.ADMITTED in verdicts


def test_an_evicted_stream_keeps_its_limit_within_the_batch() -> None:
    """A stream that is evicted and comes back in one batch is still decided at its own limit."""
    world = World(default=1.0, max_streams=1)
    world.set("a", "inf")
    world.set("b", "inf")
    answers = world.limiter.decide_all(["a", "b", "a"], [1.0, 1.0, 2.0], 1000.0)
    assert answers.fps == [math.inf] * 3
    assert answers.should_process == [True] * 3


def test_a_stream_that_is_evicted_in_the_middle_of_a_batch_is_gone() -> None:
    """A known stream that an earlier frame of the batch pushed out is decided as one without a schedule."""
    one, batch = World(default=0.5, max_streams=1), World(default=0.5, max_streams=1)
    for world in (one, batch):
        world.limiter.decide_all(["a", "b"], [10.0, 10.0], 1000.0)
        world.table.assume(["a", "b"])
        world.limiter.decide("a", 10.5, 1000.5)
    answers = batch.limiter.decide_all(["b", "a"], [20.0, 10.7], 1003.0)
    told = [one.limiter.decide(name, ts, 1003.0) for name, ts in (("b", 20.0), ("a", 10.7))]
    assert list(zip(answers.reasons, answers.next_ts, strict=True)) == [(reason, due) for reason, _, due in told]
    assert (batch.limiter.refused, batch.limiter.evicted) == (one.limiter.refused, one.limiter.evicted) == (2, 1)


async def test_names_without_a_schedule_dont_pile_up() -> None:
    """Streams that were refused or evicted are forgotten, however many names come by."""
    world = World(default=0.1, max_streams=2)
    for number in range(10_000):
        await world.limiter.prepare([f"s{number}"])
        world.limiter.decide(f"s{number}", 1.0, 1000.0)
    assert len(world.table.names()) <= 2 + 4096
    world.limiter.sweep(1000.0)
    assert world.table.names() == {"s0", "s1"}


async def test_limits_are_kept_until_what_waits_for_them_is_decided() -> None:
    """Neither a sweep nor another question's need for room forgets a stream between its reading and its decision."""
    world = World(default=1.0, max_streams=1)
    world.redis.update(new=b"0", old=b"0")
    world.limiter.decide("room", 1.0, world.now)  # nobody else has a schedule

    async def sweep() -> None:
        world.limiter.sweep(world.now)

    world.meanwhile = sweep
    await world.limiter.prepare(["new"])
    assert world.limiter.fps("new") == 0.0
    await world.limiter.prepare(["old"])
    world.meanwhile = None
    world.table.assume(f"s{number}" for number in range(5000))
    batch = ["old", "fresh"]
    await world.limiter.prepare(world.limiter.unprepared(batch), batch)
    assert world.limiter.fps("old") == 0.0
    assert len(world.table.names()) < 10


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 1.5)), min_size=1, max_size=250),
    st.integers(1, 3),
    st.sampled_from([0.5, 1.0, 3.0, 20.0]),
)
def test_eviction_never_lets_a_stream_exceed_its_rate(
    frames: list[tuple[int, float]], max_streams: int, fps: float
) -> None:
    """However streams push each other out, none is admitted more than W * fps + 2.5 times in any W seconds."""
    world = World(fps, max_streams)
    now = 1000.0
    admitted: dict[str, list[float]] = defaultdict(list)
    for stream, step in frames:
        now += step / fps
        name = f"s{stream}"
        if world.limiter.decide(name, now, now)[0] is Reason.ADMITTED:
            admitted[name].append(now)
        assert len(world.limiter) <= max_streams
    for times in admitted.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= (times[last] - start) * fps + 2.5 + 1e-4
