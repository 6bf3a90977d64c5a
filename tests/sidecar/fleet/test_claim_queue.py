"""Claims and a real server: batched, in order, waited for a bounded time; and heartbeats."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from support.redis.proxy import redis_proxy
from support.redis.topologies import plain_client
from support.redis.valkey import Valkey, valkey
from support.waiting import until

from handcounter.pacing.schedule import Pacing, Reason
from process.redis_url import parse_redis_url
from sidecar.connections.links import Links
from sidecar.connections.servers import RedisServers
from sidecar.fleet.claim_queue import ClaimQueue
from sidecar.fleet.claims import MOST_CLAIMS_PER_CALL, NO_STATE, REPLICAS_KEY, Claim, Claimed, Missing
from sidecar.fleet.heartbeat import Heartbeat

PATIENT_S = 5.0
"""Longer than any pause of a busy machine."""


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey() as running:
        yield running


class Queue(ClaimQueue):
    """A queue that records the answers that arrive."""

    def __init__(self, links: Links) -> None:
        super().__init__(links, Pacing.GCRA)
        self.links = links
        self.arrived: list[tuple[Claim, Claimed]] = []
        """In the order of their arrival, with their claims."""

    async def ask(self, *claims: Claim) -> list[Claimed | Missing]:
        """Claims frames; returns the answers that arrived in time, and why the others didn't."""
        answers: list[Claimed | None] = [None] * len(claims)

        def on_answer(number: int, answer: Claimed) -> None:
            self.arrived.append((claims[number], answer))
            answers[number] = answer

        missing = await self.claim(claims, on_answer)
        assert [answer is None for answer in answers] == [why is not None for why in missing]
        return [answer or why for answer, why in zip(list(answers), missing, strict=True)]


@contextlib.asynccontextmanager
async def background(*works: Callable) -> AsyncIterator[None]:
    """Runs coroutine functions while a block runs."""
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def queue_to(url: str, in_time_s: float = PATIENT_S) -> AsyncIterator[Queue]:
    """A queue that has reached its server."""
    queue = Queue(Links(RedisServers(parse_redis_url(url)), in_time_s))
    async with background(queue.links.run):
        async with asyncio.timeout(60):
            await queue.links.reached.wait()
        yield queue


def claim(ts: float, name: str = "cam", fps: float = 1.0) -> Claim:
    return Claim(name, ts, fps, NO_STATE)


def fresh(server: Valkey) -> str:
    """Deletes the server's data and scripts, and returns its URL."""
    with plain_client(server.port) as client:
        client.flushall()
        client.script_flush()
    return server.url


async def test_claims_of_many_callers_share_calls(server):
    """Claims that come while a call is under way wait for the next one; each caller gets its own answers."""
    async with queue_to(fresh(server)) as queue:
        answers = await asyncio.gather(*(queue.ask(claim(1.0, f"cam{n % 25}"), claim(1.5, "x")) for n in range(50)))
    reasons = [[answer.reason for answer in pair] for pair in answers]
    assert [first for first, _ in reasons] == [Reason.ADMITTED] * 25 + [Reason.DUPLICATE] * 25
    assert [second for _, second in reasons] == [Reason.ADMITTED] + [Reason.DUPLICATE] * 49
    assert queue.call_count <= 3


async def test_large_batches_are_cut(server):
    """More claims than a call may carry become several, and their answers keep the order."""
    count = 3 * MOST_CLAIMS_PER_CALL + 1
    async with queue_to(fresh(server)) as queue:
        answers = await queue.ask(*(claim(1.0 + n / 2, "cam") for n in range(count)))
        assert queue.call_count == 4
    assert [answer.reason is Reason.ADMITTED for answer in answers] == [n % 2 == 0 for n in range(count)]


async def test_no_claims_no_call(server):
    """An empty batch costs nothing."""
    async with queue_to(server.url) as queue:
        assert await queue.ask() == []
        assert queue.call_count == 0


async def test_a_missing_script_is_loaded_again(server):
    """Callers don't notice SCRIPT FLUSH, or a failover to a server that never had the script."""
    async with queue_to(fresh(server)) as queue:
        assert (await queue.ask(claim(1.0)))[0].reason is Reason.ADMITTED
        fresh(server)
        assert (await queue.ask(claim(1.0)))[0].reason is Reason.ADMITTED


async def test_slow_server_is_not_waited_for(server):
    """The first claims that aren't answered in time are late, the next ones aren't sent, until the server is fast again."""
    with redis_proxy(server.port) as proxy:
        fresh(server)
        async with queue_to(proxy.url, in_time_s=0.1) as queue:
            proxy.delay_s = 1e9
            assert await queue.ask(claim(1.0), claim(5.0, "other")) == [Missing.LATE] * 2
            assert queue.arrived == []
            calls = queue.call_count
            assert await queue.ask(claim(2.0)) == [Missing.UNREACHABLE]
            assert queue.call_count == calls
            proxy.delay_s = 0.2  # before the connection is given up
            await until(lambda: queue.arrived)
            assert [(asked.ts, answer.reason) for asked, answer in queue.arrived] == [
                (1.0, Reason.ADMITTED),
                (5.0, Reason.ADMITTED),
            ]
            proxy.delay_s = 0.0
            await until(lambda: queue.links.all_in_time)
            assert (await queue.ask(claim(3.0)))[0].reason is Reason.ADMITTED


async def test_an_answer_arrives_after_its_caller_was_cancelled():
    """Redis may have admitted the frame, so the admission can go to another one. What wasn't sent yet isn't sent any more."""
    with valkey() as server:
        async with queue_to(server.url) as queue:
            server.pause()
            asking = asyncio.create_task(queue.ask(claim(1.0)))
            await until(lambda: queue.call_count)
            unsent = asyncio.create_task(queue.ask(claim(1.0, "unsent")))
            await asyncio.sleep(0)
            for caller in (asking, unsent):
                caller.cancel()
            await asyncio.gather(asking, unsent, return_exceptions=True)
            server.resume()
            await until(lambda: queue.arrived)
            assert [asked.stream_name for asked, _ in queue.arrived] == ["cam"]
            assert queue.call_count == 1


async def test_a_server_that_rejects_the_script_is_as_good_as_unreachable():
    """Its claims are missing at once, without a wait."""
    with valkey("--maxmemory", "1") as server:
        async with queue_to(server.url) as queue:
            assert await queue.ask(claim(1.0)) == [Missing.UNREACHABLE]
            assert queue.links.all_in_time


async def test_a_lost_connection_is_made_again():
    """Claims under way when the server dies are missing at once; a new server on the same port is found."""
    with valkey() as server:
        async with queue_to(server.url) as queue:
            server.pause()
            waiting = asyncio.create_task(queue.ask(claim(1.0)))
            await until(lambda: queue.call_count)
            server.kill()
            assert await waiting == [Missing.UNREACHABLE]
            assert await queue.ask(claim(1.0)) == [Missing.UNREACHABLE]
            await asyncio.to_thread(server.restart)
            await until(lambda: queue.links.all_in_time)
            assert (await queue.ask(claim(1.0)))[0].reason is Reason.ADMITTED


@pytest.mark.slow
@pytest.mark.measured
async def test_a_hanging_server_is_connected_to_again():
    """The answers on the new connection count."""
    with valkey() as server:
        async with queue_to(server.url, in_time_s=0.1) as queue:
            server.pause()
            assert await queue.ask(claim(1.0)) == [Missing.LATE]
            await until(lambda: queue.links.holding(0)._wire is None)
            server.resume()
            await until(lambda: queue.links.all_in_time)
            assert isinstance((await queue.ask(claim(100.0)))[0], Claimed)


@pytest.mark.slow
@pytest.mark.measured
async def test_replicas_count_each_other(server):
    """Each replica knows how many there are; one that leaves isn't counted any more."""
    fresh(server)
    counts: dict[str, tuple[int, int]] = {}
    async with queue_to(server.url) as queue:
        beats = {
            name: Heartbeat(queue.links, name, lambda *count, name=name: counts.update({name: count})) for name in "ab"
        }
        async with background(beats["a"].run):
            async with background(beats["b"].run):
                await until(lambda: counts.get("a") == (2, 0) and counts.get("b") == (2, 1))
            await beats["b"].stop()
            await until(lambda: counts["a"] == (1, 0))
        await beats["a"].stop()
    with plain_client(server.port) as client:
        assert client.exists(REPLICAS_KEY) == 0
