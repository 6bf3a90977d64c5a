"""Fleet scope: what costs a claim, what a replica decides without Redis, and what it reports afterwards."""

import math

import pytest
from support.models.fleet_model import VERSION, Clock, Redis

from handcounter.pacing.schedule import CREDIT_PERIODS, Pacing, Reason, Schedule
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claims import NO_STATE, UNMERGED, Claimed, Missing, State
from sidecar.fleet.fleet import Fleet, Frame
from sidecar.fleet.reorder import Trail, decide


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis(clock) -> Redis:
    return Redis(clock)


class Revocations(LeaseBook):
    """A book that records what is revoked."""

    def __init__(self) -> None:
        super().__init__()
        self.revoked: list[str] = []

    def revoke(self, stream_name: str) -> None:
        self.revoked.append(stream_name)

    def revoke_all(self) -> None:
        self.revoked.append("all")


def frame(ts: float, fps: float = 1.0, name: str = "cam") -> Frame:
    return Frame(name, ts, fps)


async def test_only_frames_that_may_be_admitted_are_claimed(redis):
    """Frames that are too soon, late, a duplicate or paused cost no call once the stream's state is known."""
    fleet = redis.replica()
    assert await redis.decide(fleet, frame(100)) == [Reason.ADMITTED]
    asked = [frame(100.5), frame(100), frame(99), frame(98.0), frame(200, fps=0.0)]
    answers = await redis.decide(fleet, *asked)
    assert answers == [Reason.TOO_SOON, Reason.DUPLICATE, Reason.LATE, Reason.LATE, Reason.PAUSED]
    assert len(redis.calls) == 1


async def test_winner_spares_the_others_their_claims(redis):
    """All replicas learn of an admission, so none claims before the next frame is due."""
    first, second = redis.replica(), redis.replica()
    await redis.decide(second, frame(100))
    await redis.decide(first, frame(100.1))
    redis.calls.clear()
    assert await redis.decide(first, frame(101)) == [Reason.ADMITTED]
    assert await redis.decide(second, frame(101.5)) == [Reason.TOO_SOON]
    assert len(redis.calls) == 1


async def test_copies_are_not_trusted_across_a_gap(redis):
    """After a gap each stream is claimed once, and then denied locally again."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(100))
    fleet.set_listening(False)
    await redis.decide(fleet, frame(100.1))
    fleet.set_listening(True)
    redis.calls.clear()
    assert await redis.decide(fleet, frame(100.2)) == [Reason.TOO_SOON]
    assert await redis.decide(fleet, frame(100.3)) == [Reason.TOO_SOON]
    assert len(redis.calls) == 1


async def test_frames_of_one_stream_stay_in_order(redis):
    """A batch is one call with the same decisions as frame by frame, whatever a local copy would have said."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(1000))
    redis.clock.now = 10.0
    redis.calls.clear()
    asked = [frame(5.0), frame(999.9), frame(5.0, name="other"), frame(5.2, name="other")]
    answers = await redis.decide(fleet, *asked)
    assert answers == [Reason.ADMITTED, Reason.ADMITTED, Reason.ADMITTED, Reason.TOO_SOON]
    assert len(redis.calls) == 1


async def test_a_restart_applies_to_all_replicas_at_once(redis):
    """After one replica admitted the first frame of a restarted clock, the others deny and admit by the new clock."""
    first, second = redis.replica(), redis.replica()
    await redis.decide(second, frame(1000))
    await redis.decide(first, frame(1000.5))
    redis.clock.now = 1.0
    assert await redis.decide(first, frame(5.0)) == [Reason.ADMITTED]
    assert await redis.decide(second, frame(5.5)) == [Reason.TOO_SOON]
    redis.clock.now = 2.0
    assert await redis.decide(second, frame(6.0)) == [Reason.ADMITTED]


async def test_a_clock_that_jumps_back_and_forth_costs_few_claims(redis):
    """Frames of a restarted clock are denied without Redis until a period of real time has passed."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(1000, fps=0.1))
    redis.calls.clear()
    assert await redis.decide(fleet, frame(5.0, fps=0.1)) == [Reason.TOO_SOON]
    assert redis.calls == []


async def test_fps_change_acts_at_once(redis):
    """The copy has no period, so a raised limit admits the next frame and a lowered one denies it."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(100, fps=1))
    assert await redis.decide(fleet, frame(100.2, fps=10)) == [Reason.ADMITTED]
    assert await redis.decide(fleet, frame(101.2, fps=0.1)) == [Reason.TOO_SOON]


async def test_a_late_state_is_ignored(redis):
    """A state that arrives after a newer one changes nothing."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(100))
    fleet.record_change("cam", State(200, 200, 0.0, VERSION + 9))
    fleet.record_change("cam", State(150, 150, 0.0, VERSION + 8))
    redis.calls.clear()
    assert await redis.decide(fleet, frame(198.5)) == [Reason.LATE]
    assert redis.calls == []


async def test_unknown_streams_are_not_kept(redis):
    """The state of a stream that this replica was never asked about isn't kept; its first frame is claimed."""
    fleet = redis.replica()
    fleet.record_change("unknown", State(200, 200, 0.0, VERSION))
    assert await redis.decide(fleet, frame(200.0, name="unknown")) == [Reason.ADMITTED]


async def test_forgotten_stream_is_claimed(redis):
    """A stream whose copy was forgotten costs a claim and nothing else."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(100))
    fleet.forget("cam")
    assert await redis.decide(fleet, frame(100.5)) == [Reason.TOO_SOON]
    assert len(redis.calls) == 2


async def test_a_verdict_has_the_state_after_it(redis):
    """The schedule of a verdict is the one after its frame, with or without Redis."""
    fleet = redis.replica(replicas=2)
    assert await fleet.decide([frame(100)], redis) == [(Reason.ADMITTED, (100, 100, 0), False)]
    redis.clock.now = 2.5
    assert await fleet.decide([frame(100.5)], redis) == [(Reason.TOO_SOON, (100, 100, 0), False)]
    redis.reachable = False
    assert await fleet.decide([frame(102)], redis) == [(Reason.ADMITTED, (102, 102, 2.5), True)]
    assert await fleet.decide([frame(103)], redis) == [(Reason.TOO_SOON, (102, 102, 2.5), True)]
    assert await fleet.decide([frame(300, fps=0.0)], redis) == [(Reason.PAUSED, (100, 100, 0), False)]


class TestWithoutRedis:
    async def play(self, redis: Redis, fleets: list[Fleet], start: float, seconds: float, fps: float) -> list[float]:
        """Spreads 30 frames per second over the replicas in turn; returns the admitted ts."""
        admitted = []
        for number in range(int(seconds * 30)):
            ts = start + number / 30
            redis.clock.now = ts
            [reason] = await redis.decide(fleets[number * 7 % 3 % len(fleets)], frame(ts, fps))
            if reason is Reason.ADMITTED:
                admitted.append(ts)
        return admitted

    async def test_replicas_share_the_rate(self, redis):
        """Without Redis, three replicas together admit the fps, one after the other and not in step."""
        fleets = [redis.replica() for _ in range(3)]
        for place, fleet in enumerate(fleets):
            fleet.set_replicas(3, place)
        before = await self.play(redis, fleets, 1000.0, 20.0, 1.0)
        redis.reachable = False

        admitted = await self.play(redis, fleets, 1020.0, 60.0, 1.0)

        assert len(admitted) == pytest.approx(58, abs=2)
        gaps = [later - earlier for earlier, later in zip(before[-1:] + admitted, admitted, strict=False)]
        assert gaps[0] == pytest.approx(3.0, abs=0.2)  # the lateness of one frame isn't caught up on by all three
        assert min(gaps) > 0.5
        assert max(gaps[1:]) < 1.5

    async def test_no_burst_when_redis_returns(self, redis):
        """Over loss and return no window exceeds the law by more than one frame per other replica."""
        fleets = [redis.replica() for _ in range(3)]
        for place, fleet in enumerate(fleets):
            fleet.set_replicas(3, place)
        admitted = await self.play(redis, fleets, 1000.0, 10.0, 2.0)
        redis.reachable = False
        admitted += await self.play(redis, fleets, 1010.0, 30.0, 2.0)
        redis.reachable = True
        admitted += await self.play(redis, fleets, 1040.0, 20.0, 2.0)
        for first, start in enumerate(admitted):
            for last in range(first, len(admitted)):
                assert last - first + 1 <= (admitted[last] - start) * 2.0 + 1 + CREDIT_PERIODS + 2

    async def test_late_admission_goes_to_the_next_frame(self, redis):
        """A frame that Redis admitted too late was denied; exactly one later frame is admitted in its place."""
        fleet = redis.replica(replicas=4)
        await redis.decide(fleet, frame(100))
        redis.reachable, redis.missing = False, Missing.LATE
        assert await redis.decide(fleet, frame(101)) == [Reason.TOO_SOON]
        redis.reachable = True
        redis.answer_late()
        answers = await redis.decide(fleet, frame(101.0), frame(100.9), frame(101.1), frame(101.2), frame(102))
        assert answers == [Reason.DUPLICATE, Reason.LATE, Reason.ADMITTED, Reason.TOO_SOON, Reason.ADMITTED]

    @pytest.mark.parametrize(
        ("then", "admitted"),
        [(frame(102.5), True), (frame(102.6), False), (frame(102, fps=0.0), False), (frame(102, fps=1e-9), True)],
    )
    async def test_late_admission_expires(self, redis, then, admitted):
        """It can be used as long as the rule's credit covers the lateness, at the fps in force."""
        fleet = redis.replica(replicas=4)
        await redis.decide(fleet, frame(100))
        redis.reachable, redis.missing = False, Missing.LATE
        await redis.decide(fleet, frame(101))
        redis.answer_late(Claimed(Reason.ADMITTED, State(101.0, 101.0, 0.0, VERSION + 5)))
        redis.reachable = True
        redis.trails["cam"] = Trail(Schedule(1e9, 1e9, 0.0))  # every claim is denied
        reasons = await redis.decide(fleet, then)
        assert (reasons == [Reason.ADMITTED]) is admitted

    @pytest.mark.parametrize("pacing", list(Pacing))
    async def test_late_admission_between_others_is_lost_with_its_frame(self, redis, pacing):
        """A later frame can't replace one that came out of order, because it would be too close to the last admitted one."""
        fleet = redis.replica(replicas=4, pacing=pacing)
        trail = None
        for ts in (100.0, 100.2):
            _, trail = decide(trail, ts, 10.0, 0.0, pacing)
        redis.reachable, redis.missing = False, Missing.LATE
        await redis.decide(fleet, frame(100.1, fps=10.0))
        reason, trail = decide(trail, 100.1, 10.0, 0.0, pacing)
        assert (reason, trail.schedule.last_ts) == (Reason.ADMITTED, 100.2)
        (slot, last_ts, _), base, earlier = trail
        redis.answer_late(Claimed(reason, State(slot, last_ts, 0.0, VERSION + 5, base, earlier)))
        assert await redis.decide(fleet, frame(100.21, fps=10.0)) == [Reason.TOO_SOON]
        assert fleet.certain_schedule("cam", 10.0).last_ts == 100.2

    async def test_a_frame_admitted_without_redis_is_not_admitted_again(self, redis):
        """A late answer about a frame that was meanwhile admitted without Redis leaves nothing for the next one."""
        fleet = redis.replica()
        await redis.decide(fleet, frame(100))
        redis.reachable = False
        assert await redis.decide(fleet, frame(101)) == [Reason.ADMITTED]
        redis.answer_late(Claimed(Reason.ADMITTED, State(101, 101, 0, VERSION + 5)))
        assert await redis.decide(fleet, frame(101.1)) == [Reason.TOO_SOON]

    async def test_late_answer_admits_nothing(self, redis):
        """While Redis is only late, it may admit frames of others, so one of several replicas denies what it can't claim."""
        redis.reachable, redis.missing = False, Missing.LATE
        several, single = redis.replica(replicas=4), redis.replica(replicas=1)
        assert await redis.decide(several, frame(100), frame(200)) == [Reason.TOO_SOON, Reason.TOO_SOON]
        assert await redis.decide(several, frame(200, fps=0.0, name="paused")) == [Reason.PAUSED]
        assert await redis.decide(single, frame(100)) == [Reason.ADMITTED]

    async def test_unknown_fleet_size_is_the_setting(self, redis):
        """Before Redis was ever reached, a replica takes its share of the configured number of replicas."""
        redis.reachable = False
        fleet = redis.replica(replicas=4)
        reasons = await redis.decide(fleet, frame(100), frame(101), frame(103), frame(104), frame(108))
        assert [reason is Reason.ADMITTED for reason in reasons] == [True, False, False, True, True]

    async def test_reports_to_redis_what_it_admitted(self, redis):
        """Claims carry the last frame admitted without Redis, without credit, until an answer confirms it."""
        fleet = redis.replica()
        await redis.decide(fleet, frame(100))
        redis.reachable = False
        redis.clock.now = 10.0
        assert await redis.decide(fleet, frame(110.4)) == [Reason.ADMITTED]
        redis.reachable = True
        redis.clock.now = 10.1
        redis.calls.clear()
        await redis.decide(fleet, frame(110.5))
        await redis.decide(fleet, frame(113.0))
        known = [claim.known for [claim] in redis.calls]
        assert known[0] == State(110.4, 110.4, pytest.approx(0.1), UNMERGED)
        assert known[1].version < UNMERGED

    async def test_extreme_rates_are_paced(self, redis):
        """Rates at the ends of the range cause neither an error nor an extra admission."""
        fleet = redis.replica()
        fleet.set_replicas(3, 0)
        await redis.decide(fleet, frame(100))
        redis.reachable = False
        assert await redis.decide(fleet, frame(1e9, fps=1e-320)) == [Reason.TOO_SOON]
        assert await redis.decide(fleet, frame(1e9, fps=math.inf)) == [Reason.ADMITTED]


async def test_changes_by_other_replicas_revoke_leases(redis):
    """Only changes by another replica revoke leases on a stream; the new state is then the certain one."""
    leases = Revocations()
    first, second = redis.replica(leases=leases), redis.replica()
    leases.revoked.clear()
    assert first.certain_schedule("cam", 1.0) is None
    await redis.decide(first, frame(1000))
    await redis.decide(first, frame(1000.5))
    assert leases.revoked == []
    assert first.certain_schedule("cam", 1.0).last_ts == 1000
    await redis.decide(second, frame(1001))
    assert leases.revoked == ["cam"]
    assert first.certain_schedule("cam", 1.0).last_ts == 1001
    redis.clock.now = 5.0
    await redis.decide(second, frame(7))
    assert leases.revoked == ["cam", "cam"]
    assert first.certain_schedule("cam", 1.0).last_ts == 7


async def test_nothing_is_certain_of_what_redis_has_not_heard(redis):
    """The claim that reports an admission without Redis may overrule it."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(1000))
    redis.reachable = False
    await redis.decide(fleet, frame(1010))
    assert fleet.certain_schedule("cam", 1.0) is None
    redis.reachable = True
    await redis.decide(fleet, frame(1020))
    assert fleet.certain_schedule("cam", 1.0).last_ts == 1020


async def test_during_a_gap_nothing_is_certain(redis):
    """A gap revokes all leases, at both its ends."""
    leases = Revocations()
    fleet = redis.replica(leases=leases)
    await redis.decide(fleet, frame(1000))
    leases.revoked.clear()
    fleet.set_listening(False)
    fleet.set_listening(True)
    assert leases.revoked == ["all", "all"]
    assert fleet.certain_schedule("cam", 1.0) is None
    await redis.decide(fleet, frame(1001))
    assert fleet.certain_schedule("cam", 1.0).last_ts == 1001


async def test_min_gap_is_kept(clock):
    """The configured pacing also applies to what is denied locally and decided without Redis."""
    redis = Redis(clock)
    redis.reachable = False
    fleet = redis.replica(pacing=Pacing.MIN_GAP)
    reasons = await redis.decide(fleet, frame(100), frame(101.9), frame(102.8), frame(103))
    assert [reason is Reason.ADMITTED for reason in reasons] == [True, True, False, True]


async def test_the_schedule_is_that_of_the_newest_admission(redis):
    """Of an admission without Redis, too; there is none of an unknown stream."""
    fleet = redis.replica()
    assert fleet.schedule("cam") is None
    await redis.decide(fleet, frame(100))
    assert fleet.schedule("cam") == (100, 100, 0)
    redis.reachable, redis.clock.now = False, 5.0
    await redis.decide(fleet, frame(105))
    assert fleet.schedule("cam")[1:] == (105, 5)


async def test_nothing_is_certain_while_a_late_frame_may_be_admitted(redis):
    """A frame that fits between two recent admissions isn't denied."""
    fleet = redis.replica()
    await redis.decide(fleet, frame(100.0, fps=10.0), frame(100.2, fps=10.0))
    assert fleet.certain_schedule("cam", 10.0) is None
    assert fleet.certain_schedule("cam", 5.0).last_ts == 100.2


async def test_nothing_is_certain_while_an_admission_is_unspent(redis):
    """The next frame gets it; leases are revoked as soon as it is there."""
    leases = Revocations()
    fleet = redis.replica(leases=leases, replicas=2)
    await redis.decide(fleet, frame(100))
    redis.reachable, redis.missing = False, Missing.LATE
    await redis.decide(fleet, frame(101))
    leases.revoked.clear()
    redis.answer_late()
    assert set(leases.revoked) == {"cam"}
    assert fleet.certain_schedule("cam", 1.0) is None
    assert await redis.decide(fleet, frame(101.5)) == [Reason.ADMITTED]
    assert fleet.certain_schedule("cam", 1.0).last_ts == 101


async def test_min_gap_counts_from_the_frame_that_spends_an_admission(redis):
    """Redis knows an earlier frame as the last admitted one, so the next claim reports the later one."""
    fleet = redis.replica(replicas=2, pacing=Pacing.MIN_GAP)
    await redis.decide(fleet, frame(100))
    redis.reachable, redis.missing = False, Missing.LATE
    await redis.decide(fleet, frame(101))
    redis.answer_late()
    redis.reachable = True
    assert await redis.decide(fleet, frame(101.8), frame(102.3)) == [Reason.ADMITTED, Reason.TOO_SOON]
    assert redis.calls[-1][0].known[:2] == (101.8, 101.8)


class Forgetting:
    """Claims during which the replica forgets the stream."""

    def __init__(self, redis: Redis, fleet: Fleet) -> None:
        self._redis = redis
        self._fleet = fleet

    async def claim(self, claims, on_answer):
        self._fleet.forget("cam")
        return await self._redis.claim(claims, on_answer)


@pytest.mark.parametrize(("reachable", "without_redis"), [(True, False), (False, True)])
async def test_a_stream_that_is_forgotten_while_a_frame_waits_is_decided(redis, reachable, without_redis):
    """By the answer, or without Redis as a new stream. Nothing is kept about it."""
    fleet = redis.replica()
    redis.reachable = reachable
    [verdict] = await fleet.decide([frame(100)], Forgetting(redis, fleet))
    assert verdict == (Reason.ADMITTED, (100, 100, 0), without_redis)
    assert fleet.schedule("cam") is None


async def test_an_answer_without_a_state_teaches_nothing(redis):
    """The copy stays as it was."""
    fleet = redis.replica(replicas=2)
    redis.reachable, redis.missing = False, Missing.LATE
    await redis.decide(fleet, frame(100))
    redis.answer_late(Claimed(Reason.PAUSED, NO_STATE))
    assert fleet.schedule("cam") is None


async def test_an_answer_that_arrives_before_its_caller_goes_on_is_in_time(redis):
    """Even if the wait has ended for it: the frame isn't decided twice."""
    fleet = redis.replica(replicas=2)

    class Hesitating:
        async def claim(self, claims, on_answer):
            await redis.claim(claims, on_answer)
            return [Missing.LATE] * len(claims)

    assert await fleet.decide([frame(100)], Hesitating()) == [(Reason.ADMITTED, (100, 100, 0), False)]
    assert fleet.without_redis_count == 0
