"""Shadow mode: every frame is admitted, while decisions are made and counted as ever."""

from support.models.sidecar_world import World

from handcounter.pacing.schedule import ANY_TIME, Reason
from sidecar.deciding.decider import Batch


async def test_every_frame_is_admitted() -> None:
    """The answers are yes and any next_ts; the reasons, the counters and the state are those of the decisions."""
    world, shadow = World(), World(shadow=True)
    for each in (world, shadow):
        each.redis["off"] = b"0"
    batch = Batch(["a", "a", "off"], [1.0, 1.1, 1.0])
    decided, answers = await world.limiter.decide(batch), await shadow.limiter.decide(batch)
    assert answers.should_process == [True] * 3
    assert answers.next_ts == [ANY_TIME] * 3
    assert answers.reasons == decided.reasons == [Reason.ADMITTED, Reason.TOO_SOON, Reason.PAUSED]
    assert answers.fps == decided.fps
    assert shadow.roster.decisions == world.roster.decisions
    assert await shadow.limiter.list_streams("", "", 10) == await world.limiter.list_streams("", "", 10)


async def test_a_single_frame_is_admitted() -> None:
    """As a batch of one would be."""
    world, shadow = World(), World(shadow=True)
    for ts in (1.0, 1.1):
        decided, answer = await world.limiter.decide_one("a", ts), await shadow.limiter.decide_one("a", ts)
        assert answer == decided._replace(should_process=True, next_ts=ANY_TIME)
    assert answer.reason is Reason.TOO_SOON


async def test_no_lease_is_granted() -> None:
    """No client may deny a frame, of a paused stream either."""
    world = World(shadow=True)
    world.redis["off"] = b"0"
    await world.limiter.decide(Batch(["a", "off"], [1.0, 1.0]))
    assert world.limiter.leases(["a", "off"]) == [None, None]
