"""The limiter in fleet scope: what it asks the fleet, and what it keeps and tells of the answers."""

import math
from collections.abc import Sequence

import pytest
from support.models.sidecar_world import World

from handcounter.pacing.schedule import TOLERANCE_S, Pacing, Reason, Schedule
from sidecar.fleet.fleet import Frame, Verdict
from sidecar.fleet.limiter import FleetLimiter
from sidecar.limits.values import FpsSource


class Scope:
    """A fleet whose verdicts are given by hand."""

    replicas = 4

    def __init__(self) -> None:
        self.asked: list[Frame] = []
        self.verdicts: list[Verdict] = []
        self.forgotten: list[str] = []
        self.schedules: dict[str, Schedule] = {}
        self.meanwhile = lambda: None

    async def decide(self, frames: Sequence[Frame]) -> list[Verdict]:
        self.asked += frames
        self.meanwhile()
        return [self.verdicts.pop(0) for _ in frames]

    def forget(self, stream_name: str) -> None:
        self.forgotten.append(stream_name)

    def schedule(self, stream_name: str) -> Schedule | None:
        return self.schedules.get(stream_name)


class FleetWorld(World):
    """A world in fleet scope."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.scope = Scope()
        self.limiter = FleetLimiter(
            self.table,
            self.leases,
            self._learn,
            self.scope,
            pacing=Pacing.GCRA,
            max_streams=options.get("max_streams", 1000),
            clock=lambda: self.now,
        )


@pytest.fixture
def world() -> FleetWorld:
    world = FleetWorld()
    world.table.stale = False
    return world


def admitted(ts: float, alone: bool = False) -> Verdict:
    return Verdict(Reason.ADMITTED, Schedule(ts, ts, 1000.0), alone)


async def test_frames_are_asked_at_their_limits(world):
    """The fleet decides each frame at its stream's limit; the answers are its own, in order."""
    world.set("fast", "10")
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.LATE, Schedule(7.0, 7.0, 1.0), alone=False)]
    answers = await world.limiter.answer_all(["fast", "plain"], [5.0, 6.0], world.now)
    assert world.scope.asked == [("fast", 5.0, 10.0), ("plain", 6.0, 1.0)]
    assert answers == ([True, False], [Reason.ADMITTED, Reason.LATE], [10.0, 1.0], pytest.approx([5.1, 8.0], abs=1e-5))


async def test_decisions_without_redis_are_flagged(world):
    """A frame decided alone has a stale answer, whose next_ts is that of this replica's share."""
    limit = (1.0, FpsSource.DEFAULT)
    world.scope.verdicts = [admitted(5.0), admitted(6.0, alone=True)]
    assert await world.limiter.answer("a", 5.0, world.now) == (Reason.ADMITTED, limit, 6.0 - TOLERANCE_S, False)
    assert await world.limiter.answer("b", 6.0, world.now) == (Reason.ADMITTED, limit, 10.0 - TOLERANCE_S, True)
    world.table.stale = True
    world.scope.verdicts = [admitted(7.0)]
    assert (await world.limiter.answer("a", 7.0, world.now))[3]


async def test_streams_without_room_are_not_asked_about():
    """A stream for whose schedule there is no room is denied without a claim, which another frame could use."""
    world = FleetWorld(max_streams=1)
    world.scope.verdicts = [admitted(5.0)]
    answers = await world.limiter.answer_all(["a", "b"], [5.0, 5.0], world.now)
    assert answers.reasons == [Reason.ADMITTED, Reason.TOO_SOON]
    assert [frame.stream_name for frame in world.scope.asked] == ["a"]
    assert world.limiter.refused == 1


async def test_evicted_streams_are_forgotten():
    """What is known of a stream goes with its schedule."""
    world = FleetWorld(max_streams=1)
    world.scope.verdicts = [admitted(5.0), admitted(5.0)]
    await world.limiter.answer_all(["a"], [5.0], world.now)
    await world.limiter.answer_all(["b"], [5.0], world.now + 100.0)
    assert world.scope.forgotten == ["a"]


async def test_streams_that_were_evicted_before_their_own_frame_are_forgotten_too():
    """Without a limit a stream makes room for a later one of its batch; deciding it then leaves nothing behind."""
    world = FleetWorld(max_streams=1)
    world.set("a", "inf")
    forgotten_before_the_decision: list[str] = []
    world.scope.meanwhile = lambda: forgotten_before_the_decision.extend(world.scope.forgotten)
    world.scope.verdicts = [admitted(5.0), admitted(5.0)]
    await world.limiter.answer_all(["a", "b"], [5.0, 5.0], world.now)
    assert forgotten_before_the_decision == ["a"]
    assert world.scope.forgotten == ["a", "a"]


async def test_status_is_the_fleets(world):
    """Counters are this replica's; last_ts and next_ts are those of the schedule that all share."""
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.TOO_SOON, Schedule(6.0, 6.0, 1000.0), alone=False)]
    await world.limiter.answer_all(["cam", "cam"], [5.0, 6.5], world.now)
    world.scope.schedules["cam"] = Schedule(7.0, 7.0, 1000.0)
    [status] = await world.limiter.list_streams("", "", 10)
    assert (status.admitted, status.denied, status.last_reason) == (1, 1, Reason.TOO_SOON)
    assert (status.last_ts, status.next_ts) == (7.0, 8.0 - TOLERANCE_S)


async def test_change_while_redis_decides_is_in_the_answer(world):
    """The answer's fps and next_ts are those in force when it leaves, so it revives no prediction of the old limit."""
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.PAUSED, None, alone=False)]
    world.scope.meanwhile = lambda: (world.set("cam", "10"), world.set("held", "0"))
    answers = await world.limiter.answer_all(["cam", "held"], [5.0, 5.0], world.now)
    assert answers.fps == [10.0, 0.0]
    assert answers.next_ts == pytest.approx([5.1, math.inf], abs=1e-5)


async def test_decisions_are_counted(world):
    """Each frame counts once, by its reason."""
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.LATE, None, alone=False)]
    await world.limiter.answer_all(["a", "b"], [5.0, 6.0], world.now)
    assert (world.limiter.decisions[Reason.ADMITTED], world.limiter.decisions[Reason.LATE]) == (1, 1)


async def test_the_shadow_lets_everything_through_in_fleet_scope_too() -> None:
    """In the shadow the answers are yes and no next_ts; reasons and counters are those of the decisions."""
    world = FleetWorld()
    world.limiter.shadow = True
    after = Schedule(1.0, 1.0, world.now)
    world.scope.verdicts = [Verdict(Reason.ADMITTED, after, False), Verdict(Reason.TOO_SOON, after, False)]
    answers = await world.limiter.answer_all(["a", "a"], [1.0, 1.1], world.now)
    assert (answers.should_process, answers.next_ts) == ([True, True], [0.0, 0.0])
    assert answers.reasons == [Reason.ADMITTED, Reason.TOO_SOON]
    stream = world.limiter.stream("a")
    assert stream is not None
    assert (stream.admitted, stream.denied, sum(world.limiter.decisions)) == (1, 1, 2)
