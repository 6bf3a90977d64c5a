"""The decider of fleet scope: what it asks the fleet, and how it uses the verdicts."""

import math
from collections.abc import Sequence

import pytest
from support.models.sidecar_world import World

from handcounter.pacing.limits import FpsSource
from handcounter.pacing.schedule import ANY_TIME, NEVER, TOLERANCE_S, Reason, Schedule
from sidecar.deciding.roster import Roster
from sidecar.fleet.decider import FleetDecider
from sidecar.fleet.fleet import Frame, Verdict


class Scope:
    """A fleet whose verdicts the test sets."""

    replicas = 4

    def __init__(self) -> None:
        self.asked: list[Frame] = []
        self.verdicts: list[Verdict] = []
        self.forgotten: list[str] = []
        self.schedules: dict[str, Schedule] = {}
        self.certain: dict[str, Schedule] = {}
        self.meanwhile = lambda: None

    async def decide(self, frames: Sequence[Frame]) -> list[Verdict]:
        self.asked += frames
        self.meanwhile()
        return [self.verdicts.pop(0) for _ in frames]

    def forget(self, stream_name: str) -> None:
        self.forgotten.append(stream_name)

    def schedule(self, stream_name: str) -> Schedule | None:
        return self.schedules.get(stream_name)

    def certain_schedule(self, stream_name: str, _fps: float) -> Schedule | None:
        return self.certain.get(stream_name)


class FleetWorld(World):
    """A world in fleet scope."""

    def __init__(self, max_streams: int = 1000) -> None:
        super().__init__()
        self.scope = Scope()
        self.roster = Roster(self.table, self.leases, max_streams=max_streams, on_evicted=self.scope.forget)
        self.decider = FleetDecider(self.roster, self.table, self.leases, self.scope)
        self.limiter = self._limiter(self.decider)


class Holder:
    """A client with leases."""

    def __init__(self, *leased: str) -> None:
        self.leased = set(leased)

    def revoke(self, stream_name: str) -> None:
        self.leased.remove(stream_name)


@pytest.fixture
def world() -> FleetWorld:
    world = FleetWorld()
    world.table.stale = False
    return world


def admitted(ts: float, without_redis: bool = False) -> Verdict:
    return Verdict(Reason.ADMITTED, Schedule(ts, ts, 1000.0), without_redis)


async def test_frames_are_asked_at_their_limits(world):
    """The fleet decides each frame at its stream's limit; the answers are the fleet's, in order."""
    world.set("fast", "10")
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.LATE, Schedule(7.0, 7.0, 1.0), without_redis=False)]
    answers = world.decide_all(["fast", "plain"], [5.0, 6.0], world.now)
    assert world.scope.asked == [("fast", 5.0, 10.0), ("plain", 6.0, 1.0)]
    due = pytest.approx([5.1, 8.0], abs=1e-5)
    assert answers[:5] == ([True, False], [Reason.ADMITTED, Reason.LATE], [10.0, 1.0], due, False)


async def test_decisions_without_redis_are_stale(world):
    """An answer is stale if any of its frames was decided without Redis; that frame's next_ts is by this replica's share."""
    world.scope.verdicts = [admitted(5.0), admitted(6.0, without_redis=True), admitted(7.0)]
    answers = [world.decide_all([name], [ts], world.now) for name, ts in (("a", 5.0), ("b", 6.0))]
    assert [each.next_ts for each in answers] == [[6.0 - TOLERANCE_S], [10.0 - TOLERANCE_S]]
    assert [each.stale for each in answers] == [False, True]
    world.table.stale = True
    assert world.decide_all(["a"], [7.0], world.now).stale


async def test_streams_without_room_are_not_asked_about():
    """A stream for whose schedule there is no room is denied without a claim, which another frame could use."""
    world = FleetWorld(max_streams=1)
    world.scope.verdicts = [admitted(5.0)]
    answers = world.decide_all(["a", "b"], [5.0, 5.0], world.now)
    assert answers.reasons == [Reason.ADMITTED, Reason.TOO_SOON]
    assert [frame.stream_name for frame in world.scope.asked] == ["a"]
    assert world.roster.refused == 1


async def test_evicted_streams_are_forgotten():
    """The fleet forgets a stream together with its schedule."""
    world = FleetWorld(max_streams=1)
    world.scope.verdicts = [admitted(5.0), admitted(5.0)]
    world.decide_all(["a"], [5.0], world.now)
    world.decide_all(["b"], [5.0], world.now + 100.0)
    assert world.scope.forgotten == ["a"]


async def test_streams_that_were_evicted_before_their_own_frame_are_forgotten_too():
    """A stream without a limit makes room for a later one of its batch; deciding it then leaves nothing behind."""
    world = FleetWorld(max_streams=1)
    world.set("a", "inf")
    forgotten_before_the_decision: list[str] = []
    world.scope.meanwhile = lambda: forgotten_before_the_decision.extend(world.scope.forgotten)
    world.scope.verdicts = [admitted(5.0), admitted(5.0)]
    world.decide_all(["a", "b"], [5.0, 5.0], world.now)
    assert forgotten_before_the_decision == ["a"]
    assert world.scope.forgotten == ["a", "a"]


async def test_status_is_the_fleets(world):
    """Counters are this replica's; last_ts and next_ts are those of the shared schedule."""
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.TOO_SOON, Schedule(6.0, 6.0, 1000.0), without_redis=False)]
    world.decide_all(["cam", "cam"], [5.0, 6.5], world.now)
    world.scope.schedules["cam"] = Schedule(7.0, 7.0, 1000.0)
    [status] = await world.limiter.list_streams("", "", 10)
    assert (status.admitted, status.denied, status.last_reason) == (1, 1, Reason.TOO_SOON)
    assert (status.last_ts, status.next_ts) == (7.0, 8.0 - TOLERANCE_S)


async def test_a_change_while_redis_decides_is_in_the_answer(world):
    """The fps and next_ts of an answer are those in force when it leaves, so it can't revive a revoked lease."""
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.PAUSED, None, without_redis=False)]
    world.scope.meanwhile = lambda: (world.set("cam", "10"), world.set("held", "0"))
    answers = world.decide_all(["cam", "held"], [5.0, 5.0], world.now)
    assert answers.fps == [10.0, 0.0]
    assert answers.next_ts == pytest.approx([5.1, math.inf], abs=1e-5)


async def test_decisions_are_counted(world):
    """Each frame counts once, by its reason."""
    world.scope.verdicts = [admitted(5.0), Verdict(Reason.LATE, None, without_redis=False)]
    world.decide_all(["a", "b"], [5.0, 6.0], world.now)
    assert (world.roster.decisions[Reason.ADMITTED], world.roster.decisions[Reason.LATE]) == (1, 1)


async def test_leases_are_what_the_fleet_is_certain_of(world):
    """Leases are granted only on watched streams with a schedule; a paused stream needs no certainty."""
    world.table.store(["known", "claims", "off", "new"], [b"2", b"2", b"0", None])
    after = Schedule(5.0, 5.0, 1000.0)
    world.scope.verdicts = [Verdict(Reason.TOO_SOON, after, without_redis=False)] * 4
    world.decide_all(["known", "claims", "off", "asleep"], [5.0] * 4, world.now)
    world.scope.certain = {"known": after, "asleep": after, "new": after}
    leases = world.limiter.leases(["known", "claims", "off", "asleep", "new"])
    assert leases == [(5.0, 5.5 - TOLERANCE_S), None, (None, NEVER), None, None]


async def test_an_admission_without_redis_revokes_leases(world):
    """The fleet doesn't know of it before the next claim; it revokes those of the admissions that Redis decides."""
    holder = Holder("shared", "local")
    world.leases.open(holder)
    world.scope.verdicts = [admitted(5.0), admitted(6.0, without_redis=True)]
    world.decide_all(["shared", "local"], [5.0, 6.0], world.now)
    assert holder.leased == {"shared"}


async def test_refused_frames_have_no_next_ts():
    """There is no schedule, so any ts might be admitted."""
    world = FleetWorld(max_streams=1)
    world.scope.verdicts = [admitted(5.0)]
    answers = world.decide_all(["a", "b"], [5.0, 5.0], world.now)
    assert (answers.reasons[1], answers.next_ts[1]) == (Reason.TOO_SOON, ANY_TIME)
    assert world.roster.decisions[Reason.TOO_SOON] == 1


async def test_one_frame_is_decided_as_a_batch_of_one(world):
    """Its answer has the source of the limit, too."""
    world.set("cam", "2")
    world.scope.verdicts = [admitted(5.0, without_redis=True)]
    answer = await world.decider.decide_one("cam", 5.0, world.now)
    due = 7.0 - TOLERANCE_S
    assert answer[:5] == (True, Reason.ADMITTED, (2.0, FpsSource.OVERRIDE), due, True)
