"""What is read when: laws over any sequence of pushes, new streams and slow answers."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.limits.reading_plan import BUSY_FACTOR, COALESCE_S, HEARTBEAT_S, Action, ReadingPlan, Step

PERIOD_S = 30.0


@dataclass
class World:
    """A hash that changes at given times, and a follower of it in simulated time, which does what the plan says.

    Args:
        changes: When the hash changes, seconds from the start. Its push is there at once.
        arrivals: When new streams arrive.
        reading_s: How long each reading takes, one after the other; the last one again and again.
        call_s: How long a ping or a reading of awaited streams takes.
        period_s: The period of the plan.
        pushed: Whether changes are pushed.
    """

    changes: list[float]
    arrivals: list[float]
    reading_s: list[float]
    call_s: float
    period_s: float = PERIOD_S
    pushed: bool = True
    small_changes: list[float] = field(default_factory=list)
    """When a small hash changes."""
    now: float = 0.0
    small_version: int = 0
    small_known: int = 0
    version: int = 0
    """How often the hash changed."""
    known: int = 0
    """The version that the table has for all streams."""
    readings: list[tuple[Step, float, float]] = field(default_factory=list)
    """Step, begin and end of each reading of the watched streams."""
    answers: list[float] = field(default_factory=list)
    """When something was answered."""
    staleness: list[tuple[float, float]] = field(default_factory=list)
    """For each change when it happened, and when the table had it."""
    waits: list[float] = field(default_factory=list)
    """How long each new stream waited until its reading began."""

    def __post_init__(self) -> None:
        self.plan = ReadingPlan(0.0, period_s=self.period_s, pushed=self.pushed)
        kinds = {"change": self.changes, "arrival": self.arrivals, "small": self.small_changes}
        self._events = sorted((at, kind) for kind, ats in kinds.items() for at in ats)
        self._unread: list[float] = []
        self._awaited: list[float] = []

    def run(self, until: float) -> "World":
        """Follows until all events have happened and this time has come."""
        steps = 0
        while self.now < until or self._events:
            steps += 1
            assert steps < 100_000, "no progress"
            self._act(self.plan.next(self.now))
            assert self.plan.agreed_at <= self.now
            if self.pushed and self.plan.agreed_at == self.now:
                current = self.known == self.version and self.small_known == self.small_version
                assert current, "it claims to agree with Redis, and doesn't"
        return self

    def _act(self, action: Action) -> None:
        match action.step:
            case Step.WAIT:
                assert action.until > self.now
                self._pass(action.until, interruptible=True)
            case Step.COALESCE:
                assert action.until > self.now
                self._pass(action.until)
            case Step.READ_AWAITED:
                assert self._awaited
                self._read_awaited()
            case Step.PING:
                self._pass(self.now + self.call_s)
                self._answered()
            case Step.READ_SMALL:
                self._read_small()
            case Step.READ_WATCHED | Step.RESYNC:
                if action.step is Step.RESYNC and self.small_changes:
                    self._read_small()
                if self._awaited:
                    self._read_awaited()
                self._read(action.step)

    def _read(self, step: Step) -> None:
        began = self.now
        took = self.reading_s[min(len(self.readings), len(self.reading_s) - 1)]
        self.plan.begin_reading(began)
        # The worst case: a stream is read at the start and changes right after that.
        version, covered = self.version, len(self._unread)
        self._pass(began + took)
        self.plan.end_reading(self.now)
        self.known = version
        self.staleness += [(changed, self.now) for changed in self._unread[:covered]]
        del self._unread[:covered]
        self.readings.append((step, began, self.now))
        self.answers.append(self.now)

    def _read_small(self) -> None:
        self.plan.begin_small_reading(self.now)
        version = self.small_version
        self._pass(self.now + self.call_s)
        self.small_known = version
        self.plan.end_small_reading(self.now)
        self.answers.append(self.now)

    def _read_awaited(self) -> None:
        assert len(self.plan.take_awaited()) == len(self._awaited)
        self.waits += [self.now - since for since in self._awaited]
        self._awaited.clear()
        self._pass(self.now + self.call_s)
        self._answered()

    def _answered(self) -> None:
        self.plan.record_answer(self.now)
        self.answers.append(self.now)

    def _pass(self, until: float, *, interruptible: bool = False) -> None:
        """Lets time pass; events happen in it, and interrupt a wait."""
        while self._events and self._events[0][0] <= until:
            at, kind = self._events.pop(0)
            self.now = max(self.now, at)
            if kind == "change":
                self.version += 1
                self._unread.append(at)
                if self.pushed:
                    self.plan.record_push(self.now)
            elif kind == "small":
                self.small_version += 1
                if self.pushed:
                    self.plan.record_small_push(self.now)
            else:
                self.plan.await_streams([f"stream {at}"])
                self._awaited.append(at)
            if interruptible:
                return
        self.now = max(self.now, until)


LAST_EVENT_S, END_S = 2.0, 4.5


def drawn_times(choose: Random, most: int) -> list[float]:
    """Draws when something happens: anywhere, or at round times, when other things happen too."""
    grid_s = choose.choice([0.0, 0.1, 0.25])
    ats = [choose.uniform(0.0, LAST_EVENT_S) for _ in range(choose.randint(0, most))]
    return list(dict.fromkeys(round(at / grid_s) * grid_s if grid_s else at for at in ats))


def drawn_world(choose: Random) -> World:
    """Draws a world with single changes or a flood of them."""
    flood = choose.randint(1, 200)
    changes = [number / flood for number in range(flood)] if choose.random() < 0.5 else drawn_times(choose, 30)
    longest_s = choose.choice([0.0, 0.01, 0.3, 0.3])
    reading_s = [choose.uniform(0.0, longest_s) for _ in range(choose.randint(1, 10))]
    return World(changes, drawn_times(choose, 20), reading_s, choose.choice([0.0, 0.05, choose.uniform(0.0, 0.05)]))


randoms = st.integers(0, 2**64 - 1).map(Random)
"""What draws worlds: hypothesis itself would draw each number separately, and only a few for most of them."""
worlds = randoms.map(drawn_world)
"""Worlds in which everything happens in the first two seconds; the rest is for reading it."""


ROUNDING_S = 1e-6


@given(worlds)
def test_a_change_is_never_lost(world: World) -> None:
    """However changes, readings and new streams fall together, the table has every change in the end."""
    world.run(END_S)
    assert world.known == world.version
    assert len(world.staleness) == len(world.changes)
    assert world.plan.agreed_at > LAST_EVENT_S


@given(randoms)
def test_a_change_of_a_small_hash_is_never_lost(choose: Random) -> None:
    """Nor one of the streams between them."""
    world, small_changes = drawn_world(choose), drawn_times(choose, 20)
    world = World(world.changes, world.arrivals, world.reading_s, world.call_s, small_changes=small_changes).run(END_S)
    assert (world.small_known, world.known) == (len(small_changes), len(world.changes))
    assert world.plan.agreed_at > LAST_EVENT_S


@given(worlds)
def test_staleness_is_bounded(world: World) -> None:
    """A change waits at worst for the reading under way, the pause after it and its own reading.

    New streams add no more than a reading of awaited streams to each of the three.
    """
    world.run(END_S)
    longest_s = max(world.reading_s)
    pause_s = max(BUSY_FACTOR * longest_s, COALESCE_S)
    bound_s = longest_s + pause_s + longest_s + 3 * world.call_s + COALESCE_S
    assert all(read_at - changed_at <= bound_s + ROUNDING_S for changed_at, read_at in world.staleness)


@given(worlds)
def test_readings_leave_time_for_decisions(world: World) -> None:
    """Between two readings for pushes lies at least half of the time that the first one took, and 2 ms."""
    world.run(END_S)
    for (_, began, ended), (step, next_began, _) in zip(world.readings, world.readings[1:], strict=False):
        if step is Step.READ_WATCHED:
            pause_s = max(BUSY_FACTOR * (ended - began), COALESCE_S)
            assert next_began - ended >= pause_s - ROUNDING_S


@given(worlds)
def test_changes_are_coalesced(world: World) -> None:
    """There are never more readings than changes, and in a flood as few as the pauses allow."""
    world.run(END_S)
    pushed = [began for step, began, _ in world.readings if step is Step.READ_WATCHED]
    assert len(pushed) <= len(world.changes)
    assert len(pushed) <= END_S / COALESCE_S
    for began in pushed:
        assert any(change <= began - COALESCE_S + ROUNDING_S for change in world.changes)


@given(worlds)
def test_new_streams_are_read_at_once(world: World) -> None:
    """A new stream waits for what is under way, and for nothing else: for others that are read at once, and then a reading."""
    world.run(END_S)
    assert len(world.waits) == len(world.arrivals)
    under_way_s = world.call_s + max(*world.reading_s, COALESCE_S)
    assert all(wait <= under_way_s + ROUNDING_S for wait in world.waits)


@given(worlds)
def test_a_server_that_hangs_is_noticed_within_a_heartbeat(world: World) -> None:
    """Between two answers lie at most a heartbeat, or the rest after a reading, and what is done next."""
    world.run(END_S)
    longest_s = max(world.reading_s)
    bound_s = max(HEARTBEAT_S, BUSY_FACTOR * longest_s) + COALESCE_S + max(longest_s, world.call_s)
    for earlier, later in zip([0.0, *world.answers], world.answers, strict=False):
        assert later - earlier <= bound_s + ROUNDING_S


@given(worlds, st.floats(0.05, 2.0))
def test_polling_finds_changes_without_pushes(world: World, period_s: float) -> None:
    """Where nothing is pushed, the hash is read once in a period, however busy new streams keep the connection."""
    world = World(world.changes, world.arrivals, world.reading_s, world.call_s, period_s, pushed=False)
    world.run(END_S)
    assert world.known == world.version
    for (_, began, ended), (step, next_began, _) in zip(world.readings, world.readings[1:], strict=False):
        assert step is Step.RESYNC
        assert next_began >= began + period_s - ROUNDING_S
        assert next_began <= max(began + period_s, ended) + 2 * world.call_s + ROUNDING_S


def test_a_slow_resync_covers_what_a_push_cant_tell() -> None:
    """Without any push all watched streams are read each 30 s."""
    world = World(changes=[], arrivals=[], reading_s=[0.01], call_s=0.001).run(100.0)
    assert [step for step, _, _ in world.readings] == [Step.RESYNC] * 4
    assert [began for _, began, _ in world.readings] == pytest.approx([0.0, 30.0, 60.0, 90.0], abs=1e-6)
