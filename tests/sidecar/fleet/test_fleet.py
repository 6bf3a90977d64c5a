"""Fleet scope: what costs a claim, and what answers and other replicas teach a replica."""

import pytest
from support.models.fleet_model import VERSION, Redis, frame

from handcounter.pacing.schedule import Pacing, Reason
from sidecar.fleet.claims import NO_STATE, Claimed, Missing, State
from sidecar.fleet.fleet import Fleet


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


async def test_min_gap_is_kept(clock):
    """The configured pacing also applies to what is denied locally and decided without Redis."""
    redis = Redis(clock)
    redis.reachable = False
    fleet = redis.replica(pacing=Pacing.MIN_GAP)
    reasons = await redis.decide(fleet, frame(100), frame(101.9), frame(102.8), frame(103))
    assert [reason is Reason.ADMITTED for reason in reasons] == [True, True, False, True]


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
