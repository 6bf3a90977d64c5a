"""Which server holds a key, when some of the Sentinels or nodes hang."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.crc import key_slot
from support.redis.scripted import OK, RESP3, ScriptedRedis, scripted_redis

from process.redis_access import RedisAccess
from process.redis_url import Address, parse_redis_url
from sidecar.connections import servers as redis_servers
from sidecar.connections import wire as redis_wire
from sidecar.connections.errors import UnreachableError
from sidecar.connections.push import PushConnection
from sidecar.connections.servers import SLOT_COUNT, RedisServers

PASSWORD = "secret"
"""With one, a client waits already while it connects for a server that accepts and then hangs."""


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the real ones, in the same proportion."""
    monkeypatch.setattr(redis_wire, "CONNECT_TIMEOUT_S", redis_wire.CONNECT_TIMEOUT_S / 10)
    monkeypatch.setattr(redis_servers, "LOCATE_TIMEOUT_S", redis_servers.LOCATE_TIMEOUT_S / 10)


def silence(_: list[bytes]) -> None:
    """A server that accepts, and hangs."""


@contextlib.asynccontextmanager
async def sentinels(hanging: int) -> AsyncIterator[tuple[RedisServers, list[ScriptedRedis]]]:
    """A client of some Sentinels that hang and one that names the master, which is itself."""

    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"SENTINEL":
            port = str(known[-1].port).encode()
            return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port)
        return RESP3 if words[0] == b"HELLO" else OK

    async with contextlib.AsyncExitStack() as stack:
        known = [await stack.enter_async_context(scripted_redis(silence)) for _ in range(hanging)]
        known.append(await stack.enter_async_context(scripted_redis(answer)))
        url = "redis+sentinel://" + ",".join(f"127.0.0.1:{each.port}" for each in known) + "/main/0"
        yield RedisServers(parse_redis_url(url), RedisAccess(sentinel_password=PASSWORD)), known


@pytest.mark.parametrize("hanging", [0, 1, 2])
async def test_sentinels_that_hang_are_passed_over(hanging: int) -> None:
    """However many Sentinels in front hang, the server is reached: each of them has a timeout of its own."""
    async with sentinels(hanging) as (servers, _):
        connection = PushConnection(servers, "limits", lambda _keys: None)
        await connection.open()
        await connection.close()


async def test_the_last_responder_is_asked_first() -> None:
    """A Sentinel that hangs is waited for once."""
    async with sentinels(1) as (servers, (hanging, responding)):
        assert await servers.holder("limits") == Address("127.0.0.1", responding.port)
        assert await servers.holder("limits") == Address("127.0.0.1", responding.port)
        assert hanging.connections == 1
        assert responding.connections == 2


async def test_no_sentinel_answers() -> None:
    """All that hang are named."""
    async with sentinels(1) as (servers, (hanging, responding)):
        responding.answer = silence
        pattern = f"no Sentinel answered: .*:{hanging.port}: no answer.*:{responding.port}: no answer"
        with pytest.raises(UnreachableError, match=pattern):
            await servers.refresh()


async def test_a_service_that_the_sentinel_does_not_know() -> None:
    """The error names the service, since its name may be mistyped."""
    async with scripted_redis(lambda words: b"*-1\r\n" if words[0] == b"SENTINEL" else OK) as sentinel:
        servers = RedisServers(parse_redis_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/typo/0"))
        with pytest.raises(UnreachableError, match="doesn't know the service 'typo'"):
            await servers.refresh()


async def test_a_cluster_is_known_by_any_of_its_nodes() -> None:
    """Each slot's owner is read from a node's answer; a node without a host of its own is the one that was asked."""
    half = SLOT_COUNT // 2
    slots = b"*2\r\n" + b"".join(
        b"*3\r\n:%d\r\n:%d\r\n*2\r\n%s\r\n:%d\r\n" % owner
        for owner in [(0, half - 1, b"$-1", 7001), (half, SLOT_COUNT - 2, b"$8\r\n10.0.0.2", 7002)]
    )
    async with scripted_redis(lambda _: slots) as node:
        servers = RedisServers(parse_redis_url(f"redis+cluster://127.0.0.1:1,127.0.0.1:{node.port}"))
        assert servers.clustered
        assert servers.addresses() == set()
        await servers.refresh()
        assert servers.address(0) == Address("127.0.0.1", 7001)
        assert servers.address(half) == Address("10.0.0.2", 7002)
        assert servers.address(SLOT_COUNT - 1) is None
        assert servers.addresses() == {Address("127.0.0.1", 7001), Address("10.0.0.2", 7002)}
        servers.record_owner(0, Address("10.0.0.3", 7003))
        assert servers.address(0) == Address("10.0.0.3", 7003)


async def test_a_key_that_no_node_holds() -> None:
    """A cluster may have lost the node of the key."""
    async with scripted_redis(lambda _: b"*0\r\n") as node:
        servers = RedisServers(parse_redis_url(f"redis+cluster://127.0.0.1:{node.port}"))
        with pytest.raises(UnreachableError, match="no node of the cluster holds the key"):
            await servers.holder("limits")


async def test_no_node_of_a_cluster_answers() -> None:
    """The nodes that were named once are asked too, and named in the error."""
    servers = RedisServers(parse_redis_url("redis+cluster://127.0.0.1:1"))
    servers.record_owner(5, Address("127.0.0.1", 2))
    with pytest.raises(UnreachableError, match=r"no node of the cluster answered: .*:1: .*:2: "):
        await servers.holder("limits")


async def test_one_server_holds_everything() -> None:
    """A plain URL needs no answer."""
    servers = RedisServers(parse_redis_url("redis://127.0.0.1:1/0"))
    await servers.refresh()
    assert not servers.clustered
    assert servers.slot("limits") == servers.slot(b"other") == 0
    assert await servers.holder("limits") == servers.address(0) == Address("127.0.0.1", 1)
    assert servers.addresses() == {Address("127.0.0.1", 1)}


def test_slots_of_a_cluster() -> None:
    """Keys with the same hash tag share a slot, whether they are text or bytes."""
    servers = RedisServers(parse_redis_url("redis+cluster://127.0.0.1:1"))
    assert servers.slot("{7}:cam") == servers.slot(b"{7}:other") == key_slot(b"7")
