"""What replicas decide while Redis is unreachable, and what they report afterwards."""

import math

import pytest
from support.models.fleet_model import VERSION, Redis, frame

from handcounter.pacing.schedule import CREDIT_PERIODS, Pacing, Reason, Schedule
from sidecar.fleet.claims import UNMERGED, Claimed, Missing, State
from sidecar.fleet.fleet import Fleet
from sidecar.fleet.reorder import Trail, decide


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
