"""Redis lost or slow in fleet scope: how long a decision waits, in the loop's time, and what it answers."""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from support.models.simulated_loop import SlowServers, simulate
from support.redis.valkey import valkey
from support.waiting import until

from handcounter.pacing.schedule import Reason
from sidecar.deciding.decider import Batch
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.roster import Roster
from sidecar.fleet.decider import FleetDecider
from sidecar.fleet.scope import CLAIM_WAIT_S, FleetScope
from sidecar.limits.table import FpsTable

FPS = 2.0
REPLICAS = 4
SOURCE_FPS = 30.0
PROMISED_S = 0.02
EXACT_S = 1e-6


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    """Returns a client of this module's server."""
    with valkey() as server, redis.Redis(port=server.port) as connection:
        yield connection


class Sidecar:
    """A decider of fleet scope in simulated time; the other replicas exist only as a number."""

    def __init__(self, servers: SlowServers) -> None:
        self.servers = servers
        self.clock = asyncio.get_running_loop().time
        leases = LeaseBook()
        self.scope = FleetScope(servers, leases, replicas=REPLICAS, clock=self.clock)  # type: ignore[arg-type]
        table = FpsTable(FPS, lambda _field, _value: None, clock=time.monotonic, wall_clock=lambda: 0.0)
        table.stale = False
        roster = Roster(table, leases, max_streams=1000, on_evicted=self.scope.forget)
        self.decider = FleetDecider(roster, table, leases, self.scope)

    async def decide(self, name: str = "cam") -> tuple[Reason, bool, float]:
        """Decides a frame with the current ts; returns the reason, the stale flag, and the seconds that it took."""
        began = self.clock()
        answers = await self.decider.decide(Batch([name], [began]), began)
        return answers.reasons[0], answers.stale, self.clock() - began

    async def play(self, seconds: float) -> list[tuple[Reason, bool, float]]:
        """Plays a camera's frames at their times."""
        decisions = []
        for _ in range(round(seconds * SOURCE_FPS)):
            await asyncio.sleep(1 / SOURCE_FPS)
            decisions.append(await self.decide())
        return decisions


@contextlib.asynccontextmanager
async def reached(client: redis.Redis, nodes: int = 1) -> AsyncIterator[Sidecar]:
    """Yields a sidecar that has reached its Redis."""
    client.flushall()
    sidecar = Sidecar(SlowServers(client, nodes))
    # The number of replicas according to heartbeats; they needn't exist.
    client.zadd("stream_fps_replicas", {f"other{number}": 1e11 for number in range(REPLICAS - 1)})
    async with sidecar.scope.running():
        await sidecar.scope.wait_until_reachable(10.0)
        await until(lambda: sidecar.scope.in_time and sidecar.scope.replicas == REPLICAS)
        yield sidecar


def admitted(decisions: list[tuple[Reason, bool, float]]) -> int:
    """Returns how many frames were admitted."""
    return sum(reason is Reason.ADMITTED for reason, _, _ in decisions)


@pytest.mark.parametrize("delay_s", [0.2, 0.016, float("inf")])
def test_one_decision_waits_and_no_longer_than_promised(client: redis.Redis, delay_s: float) -> None:
    """If Redis takes 200 ms, is slightly too slow, or hangs, one decision waits for it; all are stale, at fps / replicas."""

    async def work() -> None:
        async with reached(client) as sidecar:
            reason, stale, took = await sidecar.decide()
            assert (reason, stale) == (Reason.ADMITTED, False)
            assert took <= 2 * sidecar.servers.delay_s + EXACT_S  # once more if the script had to be loaded
            sidecar.servers.delay_s = delay_s
            decisions = await sidecar.play(60.0)
            waits = [took for _, _, took in decisions if took > 0.0]
            assert waits == [pytest.approx(CLAIM_WAIT_S, abs=EXACT_S)]
            assert max(waits) < PROMISED_S
            since = next(number for number, (_, _, took) in enumerate(decisions) if took > 0.0)
            assert (
                decisions[since][0] is Reason.TOO_SOON
            )  # a Redis that is only late may still admit frames of other replicas
            after = decisions[since:]
            # The admission that came too late goes to the next frame; Redis made that decision.
            given = 0 if math.isinf(delay_s) else 1
            assert sum(not stale for reason, stale, _ in after if reason is Reason.ADMITTED) == given
            # What the fleet's last state denies needs no Redis, so it isn't stale.
            assert sum(stale for _, stale, _ in after) > 0.9 * len(after)
            assert admitted(after) == pytest.approx(60.0 * FPS / REPLICAS, abs=2.5)

    simulate(work())


def test_a_lost_redis_costs_no_wait_at_all(client: redis.Redis) -> None:
    """With refused connections, decisions take no time, are stale, and keep to fps / replicas."""

    async def work() -> None:
        async with reached(client) as sidecar:
            await sidecar.decide()
            sidecar.servers.lose()
            decisions = await sidecar.play(60.0)
            assert {took for _, _, took in decisions} == {0.0}
            assert all(stale for reason, stale, _ in decisions if reason is Reason.ADMITTED)
            assert sum(stale for _, stale, _ in decisions) > 0.9 * len(decisions)
            assert admitted(decisions) == pytest.approx(60.0 * FPS / REPLICAS, abs=2.5)

    simulate(work())


def test_claims_at_many_servers_wait_together(client: redis.Redis) -> None:
    """A batch over the hash tags of a slow cluster waits once, not once per call."""

    async def work() -> None:
        async with reached(client, nodes=3) as sidecar:
            sidecar.servers.delay_s = 0.2
            names = [f"cam{number}" for number in range(500)]
            for expected in (CLAIM_WAIT_S, 0.0):
                began = sidecar.clock()
                await sidecar.decider.decide(Batch(names, [began] * len(names)), began)
                assert sidecar.clock() - began == pytest.approx(expected, abs=EXACT_S)

    simulate(work())


@pytest.mark.parametrize("fault", ["slow", "lost"])
def test_redis_back_decides_again_without_a_burst(client: redis.Redis, fault: str) -> None:
    """Within about a second Redis decides again, and no window exceeds the law."""

    async def work() -> None:
        async with reached(client) as sidecar:
            before = await sidecar.play(10.0)
            if fault == "slow":
                sidecar.servers.delay_s = 0.2
            else:
                sidecar.servers.lose()
            await sidecar.play(30.0)
            sidecar.servers.delay_s, sidecar.servers.reachable = 0.001, True
            began = sidecar.clock()
            first = []
            while not sidecar.scope.in_time:
                first += await sidecar.play(0.1)
            assert sidecar.clock() - began < 1.5
            after = first + await sidecar.play(20.0)
            assert not any(stale for _, stale, _ in after[-30:])
            assert admitted(before) == pytest.approx(10.0 * FPS, abs=1)
            assert admitted(after) == pytest.approx(20.0 * FPS, abs=2.5)
            counts = itertools.accumulate((reason is Reason.ADMITTED for reason, _, _ in after), initial=0)
            for end, count in enumerate(counts):
                assert count <= end / SOURCE_FPS * FPS + 2.5

    simulate(work())
