"""The law of leases: decisions with and without them are the same, except between a change and its revocation.

The sidecar's sessions and limiter and the client's leases are real. The transport between them is simulated, so that
messages can be late at the worst of times. A second limiter, which is asked about every frame, serves as reference.
"""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients.leased import Frames, LeasedClient
from support.coroutines import run
from support.models.leased_fleet import metrics
from support.models.sidecar_world import World

from handcounter.pacing.schedule import Pacing, Reason
from sidecar.deciding.roster import LeasedDenials
from sidecar.rpc.session import Sessions

STREAMS = "abcd"
CLIENTS = 3


class Fleet:
    """Clients with leases at one sidecar, and a reference sidecar that is asked about every frame."""

    def __init__(self, pacing: Pacing, max_streams: int) -> None:
        self.leased, self.plain = World(2.0, max_streams, pacing), World(2.0, max_streams, pacing)
        sessions = Sessions(self.leased.limiter, self.leased.leases, metrics())
        self.clients = [LeasedClient(sessions, lambda: self.leased.now) for _ in range(CLIENTS)]
        self.by_lease = 0

    def stamp(self, delta: float) -> float:
        """Returns a ts on a grid, near the clock of a camera that started with the test."""
        return round((self.leased.now - 900.0 + delta) * 100) / 100

    def ask_plain(self, frames: Frames) -> list[Reason]:
        """Decides frames one by one at the reference."""
        return [self.plain.ask(name, ts) for name, ts in frames]

    def frames(self, number: int, frames: Frames) -> None:
        """Lets one client decide frames."""
        client = self.clients[number]
        reasons, open_ones = client.leases.deny(frames, self.leased.now)
        for (name, ts), reason in zip(frames, reasons, strict=True):
            if reason is None:
                continue
            self.by_lease += 1
            if client.has_revocation_underway(name):
                denied = [int(reason is each) for each in (None, *Reason)]
                self.plain.limiter.record_leased_denials([LeasedDenials(name, denied, ts, reason, 0.0)])
            else:
                assert [reason] == self.ask_plain([(name, ts)]), (name, ts)
        if open_ones:
            asked = [frames[index] for index in open_ones]
            self.report()
            assert client.ask(asked) == self.ask_plain(asked), asked

    def unary(self, frame: tuple[str, float]) -> None:
        """Asks about a frame without a session."""
        self.report()
        assert [self.leased.ask(*frame)] == self.ask_plain([frame])

    def report(self) -> None:
        """Lets all clients report leased denials; no message reaches them."""
        for client in self.clients:
            client.report()

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.report()
        self.leased.now += seconds
        self.plain.now += seconds

    def set(self, field: str, fps: bytes | None) -> None:
        """Changes the hash in Redis, and reads it."""
        for world in (self.leased, self.plain):
            if fps is None:
                world.redis.pop(field, None)
            else:
                world.redis[field] = fps
            if field == "*":
                world.table.store_wildcard(fps)
            elif field in world.table.watched:  # inactive streams aren't read
                world.table.store([field], [fps])

    def delete(self) -> None:
        """Deletes the hash in Redis, and reads it: the limits of all streams change at once."""
        for world in (self.leased, self.plain):
            world.redis.clear()
            world.table.store(watched := list(world.table.watched), [None] * len(watched))
            world.table.store_wildcard(None)

    def sweep(self) -> None:
        """Runs the sweep, after which silent streams are no longer watched."""
        self.report()
        for world in (self.leased, self.plain):
            world.limiter.sweep()

    def lose(self, number: int) -> None:
        """Breaks one client's session."""
        self.report()
        self.clients[number].lose()


DELTAS = [-30.0, -3.0, -2.01, -2.0, -1.99, -0.5, -0.1, -0.03, 0.0, 0.0, 0.0, 0.03, 0.2, 1.0, 5.0]
WAITS = [0.01, 0.03, 0.03, 0.1, 0.25, 1.0, 2.5, 61.0]
FPS = [b"0", b"0.5", b"1", b"5", b"30", b"inf", b"x", None]
OPERATIONS = {"frames": 12, "wait": 5, "set": 3, "deliver": 3, "unary": 2, "lose": 1, "sweep": 1, "delete": 0.2}


def operate(fleet: Fleet, choose: random.Random) -> None:
    """Does one random operation."""
    (operation,) = choose.choices(list(OPERATIONS), list(OPERATIONS.values()))
    number = choose.randrange(CLIENTS)
    match operation:
        case "frames":
            name, other = choose.sample(STREAMS, 2)
            names = choose.choice(([name], [name], [name, other], [name, other, name, name]))
            fleet.frames(number, [(each, fleet.stamp(choose.choice(DELTAS))) for each in names])
        case "wait":
            fleet.wait(choose.choice(WAITS))
        case "set":
            fleet.set(choose.choice(STREAMS + "**"), choose.choice(FPS))
        case "deliver":
            fleet.clients[number].deliver(choose.randint(1, 5))
        case "unary":
            fleet.unary((choose.choice(STREAMS), fleet.stamp(choose.choice(DELTAS))))
        case "lose":
            fleet.lose(number)
        case _:
            getattr(fleet, operation)()
    fleet.wait(1e-6)  # no two operations happen at the same time, or the newest frame would be ambiguous


@pytest.fixture(autouse=True, scope="module")
def exact_silence() -> Any:
    """Reports arrive at once here, so eviction needs no allowance for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sidecar.deciding.roster.REPORT_GRACE_S", 0.0)
        yield


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(0, 2**32), st.sampled_from(Pacing), st.sampled_from([2, 3, 100]))
def test_decisions_with_and_without_leases_are_the_same(
    operations: int, seed: int, pacing: Pacing, max_streams: int
) -> None:
    """It holds whatever clients, operators and clocks do and however late messages are, and so does ListStreams."""
    fleet = Fleet(pacing, max_streams)
    choose = random.Random(seed)
    for _ in range(operations):
        operate(fleet, choose)
    fleet.report()
    assert fleet.leased.roster.decisions == fleet.plain.roster.decisions
    listed = [run(world.limiter.list_streams("", "", 10)) for world in (fleet.leased, fleet.plain)]
    assert listed[0] == listed[1]


def test_leases_save_questions() -> None:
    """Leases are actually used: they deny most frames of cameras far above their limit."""
    fleet = Fleet(Pacing.GCRA, 100)
    for _ in range(300):
        for number in range(CLIENTS):
            fleet.frames(number, [(STREAMS[number], fleet.stamp(0.0))])
        fleet.wait(1 / 30)
    assert fleet.by_lease == CLIENTS * (300 - 20)
