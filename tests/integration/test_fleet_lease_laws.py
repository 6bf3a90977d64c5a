"""The laws of leases in fleet scope: several replicas, each with clients that hold leases, and one shared rule.

A lease denies only what the fleet would deny, for the same reason, unless the revocation is still on its way. A frame that is
denied without a claim would also be denied by a claim. And only the shared rule admits frames.
The rule is the script on a real server; the order of all messages is random (see leased_fleet).
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients.fleet_player import most_over_law
from support.models.leased_fleet import LeasedFleet
from support.models.pacing_laws import epochs, least_gap_s, over_law
from support.models.timed_claims import Line, Server, line

from handcounter.pacing.schedule import Pacing, Reason

STREAMS = "abcd"
STEADY = {"a": 5.0, "b": 0.5}
"""Streams whose limit never changes: each of their windows obeys the law."""

LAW_BURST = 2.5
ROUNDING = 1e-3  # frames

DELTAS = [-1.0, -0.5, -0.3, -0.2, -0.1, -0.1, -0.03, -0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.03]
ODD_DELTAS = [-30.0, -3.0, -2.01, -2.0, -1.99, -1.5, 0.2, 1.0, 5.0]
WAITS = [0.001, 0.003, 0.01, 0.01, 0.03, 0.03, 0.03, 0.03, 0.1, 0.1, 0.25, 1.0, 2.5]
FPS = [b"0", b"0.5", b"1", b"5", b"30", b"inf", b"x", None]
OPERATIONS: dict[str, float] = {
    "frames": 16,
    "wait": 8,
    "arrive": 6,
    "answer": 6,
    "step": 6,
    "hear": 8,
    "deliver": 8,
    "settle": 6,
    "set": 0.6,
    "push": 1.5,
    "unary": 1,
    "lose": 0.3,
    "sleep": 0.2,
    "report": 0.5,
}
FAULTS = {"give_up": 0.5, "probe": 2, "cut": 0.3, "unsubscribe": 0.5, "notice": 2}


class Chances:
    """Operations and how often each of them is drawn, summed up once."""

    def __init__(self, weights: dict[str, float]) -> None:
        self._operations, self._sums = list(weights), list(itertools.accumulate(weights.values()))

    def draw(self, choose: random.Random) -> str:
        """Draws an operation."""
        [operation] = choose.choices(self._operations, cum_weights=self._sums)
        return operation


CHANCES = {False: Chances(OPERATIONS), True: Chances(OPERATIONS | FAULTS)}
"""By whether there are faults."""


@pytest.fixture(scope="module")
def client() -> Iterator[Line]:
    """Returns a connection to this module's server."""
    with line() as connection:
        yield connection


def build(
    client: Line, pacing: Pacing = Pacing.GCRA, replicas: int = 3, each: int = 2, max_streams: int = 1000
) -> LeasedFleet:
    """Builds replicas that know the limits of the steady streams."""
    fleet = LeasedFleet(Server(client, pacing), replicas, each, pacing, max_streams)
    fleet.server.limits.update({name: str(fps).encode() for name, fps in STEADY.items()})
    return fleet


def some_delta(choose: random.Random) -> float:
    """Draws the distance of a frame from its camera's clock."""
    return choose.choice(ODD_DELTAS if choose.random() < 0.04 else DELTAS)


def stamp(fleet: LeasedFleet, delta: float = 0.0) -> float:
    """Returns a ts on a grid, near the clock of a camera that started with the test."""
    return round((1000.0 + fleet.server.now + delta) * 100) / 100


def operate(fleet: LeasedFleet, choose: random.Random, faults: bool) -> None:
    """Does one random operation."""
    operation = CHANCES[faults].draw(choose)
    replica, client = choose.choice(fleet.replicas), choose.choice(fleet.clients)
    match operation:
        case "frames":
            name, other = choose.sample(STREAMS, 2)
            names = choose.choice(([name], [name], [name, other], [name, other, name, name]))
            fleet.frames(client, [(each, stamp(fleet, some_delta(choose))) for each in names])
        case "wait":
            fleet.server.wait(choose.choice(WAITS))
        case "step":
            if fleet.questions:
                fleet.step(choose.choice(fleet.questions))
        case "hear":
            replica.hear(choose.randrange(10))
        case "deliver":
            fleet.deliver(client, choose.randint(1, 5))
        case "set":
            fleet.set(choose.choice("cd*"), choose.choice(FPS))
        case "unary":
            fleet.unary(replica, choose.choice(STREAMS), stamp(fleet, some_delta(choose)))
        case "lose":
            fleet.lose(client, cancels=faults)
        case "settle":
            fleet.settle()
        case "sleep":
            fleet.server.wait(choose.choice([1.0, 61.0]))
            replica.limiter.sweep()
        case "report":
            if not client.waits:
                client.report()
        case _:
            getattr(replica, operation)()


def play(fleet: LeasedFleet, operations: int, seed: int, faults: bool) -> None:
    """Does many random operations."""
    choose = random.Random(seed)
    for _ in range(operations):
        operate(fleet, choose, faults)
        fleet.server.wait(1e-6)
    fleet.settle()


@settings(max_examples=60)
@given(st.integers(1, 600), st.integers(0, 2**32), st.sampled_from(Pacing), st.sampled_from([2, 1000]))
def test_leases_say_what_the_fleet_would_say(
    client: Line, operations: int, seed: int, pacing: Pacing, max_streams: int
) -> None:
    """It holds for all clients, whatever cameras, operators and clocks do, however late and reordered messages are."""
    fleet = build(client, pacing, max_streams=max_streams)
    play(fleet, operations, seed, faults=False)
    granted = {name: [ts for _, ts, _ in admissions] for name, admissions in fleet.server.admitted.items()}
    # Clients may process only what the rule admitted, each frame once; a client that lost its session got no answer.
    assert not fleet.admitted - Counter((name, ts) for name, tss in granted.items() for ts in tss)
    for name, admissions in fleet.server.admitted.items():
        runs = epochs(admissions)
        for run in runs:
            tss = [ts for _, ts, _ in run]
            if name in STEADY:
                assert {fps for _, _, fps in run} == {STEADY[name]}
                assert most_over_law(tss, STEADY[name], LAW_BURST) < ROUNDING
            elif tss == sorted(tss):
                assert over_law(run) < ROUNDING
        for before, after in itertools.pairwise(runs):
            real_time, _, fps = after[0]
            assert real_time - before[-1][0] >= least_gap_s(fps) - 1e-6


@settings(max_examples=60)
@given(st.integers(1, 600), st.integers(0, 2**32), st.sampled_from(Pacing))
def test_leases_say_what_the_replica_would_say_when_redis_fails(
    client: Line, operations: int, seed: int, pacing: Pacing
) -> None:
    """With late or lost answers and replicas that don't hear each other, no lease outlives its validity."""
    fleet = build(client, pacing)
    play(fleet, operations, seed, faults=True)
    without_redis = sum(replica.admitted_without_redis for replica in fleet.replicas)
    assert fleet.answered[Reason.ADMITTED] <= without_redis + sum(map(len, fleet.server.admitted.values()))


def test_leases_save_questions(client: Line) -> None:
    """Leases are actually granted: to clients of a camera far above its limit whose frames reach all replicas in turn.

    Each admission ends the leases of all clients, so each client asks at most once or twice until the next one.
    """
    fleet = build(client)
    for number in range(600):
        fleet.frames(fleet.clients[number * 5 % 6], [("b", stamp(fleet))])
        fleet.settle()
        fleet.server.wait(1 / 30)
    assert fleet.answered[Reason.ADMITTED] == 10
    assert fleet.by_lease > 600 - 10 * (6 + 1)
    assert fleet.checked == fleet.by_lease


def test_the_laws_are_looked_at(client: Line) -> None:
    """The random histories contain many denials by leases and local copies, and admissions of every stream."""
    checked = by_copy = 0
    admitted: Counter[str] = Counter()
    for seed in range(10):
        fleet = build(client)
        play(fleet, 400, seed, faults=False)
        checked += fleet.checked
        by_copy += sum(replica.checked for replica in fleet.replicas)
        admitted.update({name: len(admissions) for name, admissions in fleet.server.admitted.items()})
    assert checked > 100
    assert by_copy > 100
    assert min(admitted[name] for name in STREAMS) > 10


def test_what_a_replica_admits_alone_ends_leases(client: Line) -> None:
    """Redis publishes no such admission, so the replica itself revokes the leases of its other clients."""
    fleet = build(client, replicas=1)
    one, other = fleet.clients
    for holder in (one, other):
        fleet.frames(holder, [("b", 1000.0)])
        fleet.settle()
    assert len(other.leases) == 1
    fleet.replicas[0].cut()
    fleet.frames(one, [("b", 1002.5)])
    fleet.settle()
    assert fleet.admitted["b", 1002.5] == 1
    assert len(other.leases) == 0
    fleet.frames(other, [("b", 1001.0)])
    fleet.settle()
    assert fleet.answered[Reason.LATE] == 1


def test_an_answer_from_before_a_gap_confirms_nothing(client: Line) -> None:
    """Admissions between an answer and the end of the gap weren't heard, so the answer's state isn't certain."""
    fleet = build(client, replicas=2, each=1)
    replica, other = fleet.replicas
    fleet.frames(fleet.clients[0], [("a", 1000.0)])
    replica.arrive()
    replica.unsubscribe()
    replica.notice()
    fleet.unary(other, "a", 1000.2)
    other.arrive()
    replica.fleet.set_listening(True)
    replica.listening = replica.subscribed = True
    replica.answer()
    assert replica.certain_schedule("a", 5.0) is None
    fleet.settle()
    fleet.frames(fleet.clients[0], [("a", 1000.1)])
    assert replica.truth("a", 1000.1) is Reason.LATE
