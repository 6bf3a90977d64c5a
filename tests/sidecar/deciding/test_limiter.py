"""The limiter: the steps before a decision, and the status of each stream."""

from collections import defaultdict

import pytest
from support.models.sidecar_world import World

from handcounter.pacing.limits import FpsSource
from handcounter.pacing.schedule import ANY_TIME, NEVER, Reason
from sidecar.deciding.decider import UNDECIDED, Batch
from sidecar.deciding.roster import ACTIVE_S, SPARE_NAMES, LeasedDenials


async def test_the_counts_are_those_of_the_answers() -> None:
    """What ListStreams and the metrics count is what was answered."""
    world = World(default=2.0)
    counts: dict[str, dict[bool, int]] = defaultdict(lambda: {True: 0, False: 0})
    for number in range(300):
        name = "abc"[number % 3]
        world.now = 1000 + number / 90
        reason, *_ = world.decide(name, number / 90, world.now)
        counts[name][reason is Reason.ADMITTED] += 1
    listed = await world.limiter.list_streams("", "", 10)
    assert {status.stream_name: {True: status.admitted, False: status.denied} for status in listed} == counts
    assert world.roster.decisions[Reason.ADMITTED] == sum(count[True] for count in counts.values())
    assert sum(world.roster.decisions) == 300


async def test_list_streams_has_the_limit_and_the_state() -> None:
    """A stream's status has its limit and source, the bad value, the last decision, next_ts and its rates."""
    world = World(default=5.0)
    world.redis = {"bad": b"fast", "own": b"2", "paused": b"0"}
    for number in range(600):
        world.now = 1000 + number / 30
        await world.limiter.decide(Batch(["bad", "own", "paused", "plain"], [50 + number / 30] * 4))
    bad, own, paused, plain = await world.limiter.list_streams("", "", 10)
    assert [status.stream_name for status in (bad, own, paused, plain)] == ["bad", "own", "paused", "plain"]
    assert (bad.fps, bad.fps_source, bad.invalid_value) == (5.0, FpsSource.DEFAULT, "fast")
    assert (own.fps, own.fps_source, own.invalid_value) == (2.0, FpsSource.OVERRIDE, "")
    assert own.achieved_fps == pytest.approx(2.0, rel=0.02)
    assert own.speed == pytest.approx(1.0, rel=0.02)
    assert own.last_reason is Reason.TOO_SOON
    assert own.next_ts == pytest.approx(own.last_ts + 0.5, abs=0.05)
    assert (paused.admitted, paused.denied, paused.achieved_fps) == (0, 600, 0.0)
    assert (paused.last_reason, paused.last_ts, paused.next_ts) == (Reason.PAUSED, None, NEVER)
    assert plain.achieved_fps == pytest.approx(5.0, rel=0.02)
    assert plain.stale  # Redis was never reached


async def test_a_resumed_stream_without_an_admission_would_be_admitted_at_any_ts() -> None:
    """next_ts of a stream that was only ever paused is the rule's "any ts" once it isn't."""
    world = World()
    world.set("a", "0")
    world.decide("a", 10.0, 1000.0)
    world.set("a", "1")
    assert [status.next_ts for status in await world.limiter.list_streams("", "", 1)] == [ANY_TIME]


async def test_a_silent_stream_isnt_watched_but_listed_at_its_current_limit() -> None:
    """After a minute of silence a stream is asleep; its limit is read again when it is listed or has a frame."""
    world = World()
    world.redis["a"] = b"5"
    await world.limiter.decide(Batch(["a", "b"], [1.0, 1.0]))
    world.decide("b", 2.0, world.now + ACTIVE_S)
    world.now += ACTIVE_S + 1
    world.limiter.sweep()
    assert world.roster.unread(["a", "b"]) == ["a"]
    world.redis["a"] = b"7"
    assert [status.fps for status in await world.limiter.list_streams("a", "", 1)] == [7.0]


async def test_limits_that_arent_known_are_read_before_a_decision() -> None:
    """Once per batch for all of its streams, and not again while they are watched."""
    world = World()
    world.redis.update(a=b"0", b=b"5")
    for ts in (1.0, 2.0):
        answers = await world.limiter.decide(Batch(["a", "b", "c"], [ts] * 3))
        assert answers.fps == [0.0, 5.0, 1.0]
    assert world.reads == [["a", "b", "c"]]
    assert (await world.limiter.decide_one("b", 3.0)).limit == (5.0, FpsSource.OVERRIDE)
    assert len(world.reads) == 1
    world.redis["d"] = b"7"
    assert (await world.limiter.decide_one("d", 3.0)).limit == (7.0, FpsSource.OVERRIDE)
    assert world.reads[1:] == [["d"]]


async def test_limits_are_kept_until_what_waits_for_them_is_decided() -> None:
    """Neither a sweep nor another batch's need for room forgets a stream between its reading and its decision."""
    world = World(default=1.0, max_streams=1)
    world.redis.update(new=b"0", old=b"0")
    world.ask("room", 1.0)  # no other stream gets a schedule

    async def sweep() -> None:
        world.limiter.sweep()

    world.meanwhile = sweep
    assert (await world.limiter.decide(Batch(["new"], [1.0]))).fps == [0.0]
    assert (await world.limiter.decide(Batch(["old"], [1.0]))).fps == [0.0]
    world.meanwhile = None
    world.table.assume(f"s{number}" for number in range(SPARE_NAMES + 1))
    assert (await world.limiter.decide(Batch(["old", "fresh"], [1.0] * 2))).fps == [0.0, 1.0]
    assert len(world.table.names()) < 10


async def test_an_answer_is_stale_while_redis_is_unreachable() -> None:
    """And isn't when the limits are known to be up to date."""
    world = World()
    for stale in (True, False):
        world.table.stale = stale
        assert (await world.limiter.decide(Batch(["a"], [1.0]))).stale is stale


async def test_reports_count_and_keep_a_stream_active() -> None:
    """Denials under leases are in the counters; a stream that only leases deny isn't silent."""
    world = World()
    world.ask("a", 10.0)
    world.now += 10.0
    world.limiter.record_leased_denials([LeasedDenials("a", (0, 0, 5, 0, 2, 1), 14.0, Reason.LATE, age_s=2.0)])
    (status,) = await world.limiter.list_streams("", "", 10)
    assert (status.admitted, status.denied, status.last_reason) == (1, 8, Reason.LATE)
    assert status.speed == pytest.approx(4.0 / 8.0)
    assert status.achieved_fps > 0.0
    assert world.limiter.leases(["a"]) == world.decider.leases(["a"])
    assert len(world.limiter) == 1


async def test_a_stream_that_is_evicted_while_the_page_waits_isnt_listed() -> None:
    """Limits of sleeping streams are read for a page; what went in the meantime is left out."""
    world = World(default=1.0, max_streams=2)
    for name in ("a", "b"):
        world.ask(name, 1.0)
    world.now += ACTIVE_S + 1.0
    world.limiter.sweep()

    async def evict() -> None:
        world.meanwhile = None
        world.roster.add("c", 1.0, world.now)

    world.meanwhile = evict
    listed = await world.limiter.list_streams("", "", 10)
    assert [status.stream_name for status in listed] == ["b"]


def world_without_redis(default: float = 1.0, *, shadow: bool = False) -> World:
    """Returns a world in which only the limits of a and b were ever read."""
    world = World(default, shadow=shadow)
    world.table.store(["a", "b"], [b"5", None])
    world.unreachable = True
    return world


async def test_limits_that_were_never_read_are_marked() -> None:
    """In the answers about batches and single frames, and in ListStreams; until the limit is read."""
    world = world_without_redis()
    batch = Batch(["a", "new", "b", "new"], [1.0, 1.0, 1.0, 2.5])
    answers = await world.limiter.decide(batch)
    assert (answers.unread, answers.should_process, answers.fps) == ((1, 3), [True] * 4, [5.0, 1.0, 1.0, 1.0])
    assert (await world.preview.decide(batch)).unread == (1, 3)
    assert [(await world.limiter.decide_one(name, 9.0)).unread for name in ("a", "b", "new")] == [False, False, True]
    assert (await world.preview.decide_one("new", 9.0)).unread
    listed = {status.stream_name: status.limit_unread for status in await world.limiter.list_streams("", "", 9)}
    assert listed == {"a": False, "b": False, "new": True}
    world.table.store(["new"], [None])
    assert (await world.limiter.decide(batch)).unread == ()


@pytest.mark.parametrize("default", [1.0, 0.0])
async def test_frames_whose_limit_was_never_read_are_left_undecided_if_asked_for(default: float) -> None:
    """They change nothing, and get no lease, whatever the default; the others are decided as if they were alone."""
    world, other = world_without_redis(default), world_without_redis(default)
    batch = Batch(["new", "a", "new", "b", "a"], [1.0, 1.0, 2.0, 1.0, 1.1])
    answers = await world.limiter.decide(batch, known_only=True)
    alone = await other.limiter.decide(Batch(["a", "b", "a"], [1.0, 1.0, 1.1]))
    assert answers.unread == (0, 2)
    assert [answers.reasons[place] for place in (0, 2)] == [UNDECIDED] * 2
    assert [answers.should_process[place] for place in (0, 2)] == [False] * 2
    for column, expected in zip(answers[:4], alone[:4], strict=True):
        assert [column[place] for place in (1, 3, 4)] == expected
    assert world.roster.decisions == other.roster.decisions
    assert "new" not in world.roster.streams
    assert world.limiter.leases(["new", "a"], known_only=True) == [None, *other.limiter.leases(["a"])]
    assert (await world.limiter.decide_one("new", 1.0, known_only=True))[:2] == (False, UNDECIDED)
    previewed = await world.preview.decide(Batch(["new"], [1.0]), known_only=True)
    assert (previewed.should_process, previewed.reasons) == ([False], [UNDECIDED])


async def test_shadow_mode_leaves_no_frame_undecided() -> None:
    """There every frame is admitted."""
    world = world_without_redis(shadow=True)
    batch = Batch(["new"], [1.0])
    for answers in (
        await world.limiter.decide(batch, known_only=True),
        await world.preview.decide(batch, known_only=True),
    ):
        assert (answers.should_process, answers.unread) == ([True], (0,))
    assert (await world.limiter.decide_one("new", 2.0, known_only=True)).should_process
