"""Who is asked which server holds a key, when some of those who know hang."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import AskError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from support.redis.scripted import OK, RESP3, ScriptedRedis, scripted_redis

from process.redis_access import RedisAccess
from process.redis_url import Address, parse_redis_url
from sidecar.connections import push as redis_push
from sidecar.connections import servers as redis_servers
from sidecar.connections.push import PushConnection, RefusedError
from sidecar.connections.servers import RedisServers

PASSWORD = "secret"
"""With one, even a server that accepts and then hangs keeps a client waiting that only wants to connect."""


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand to each other in earnest, a tenth of them."""
    monkeypatch.setattr(redis_servers, "CONNECT_TIMEOUT_S", redis_servers.CONNECT_TIMEOUT_S / 10)
    monkeypatch.setattr(redis_push, "TIMEOUT_S", redis_push.TIMEOUT_S / 10)


def silence(_: list[bytes]) -> None:
    """A server that accepts, and hangs."""


@contextlib.asynccontextmanager
async def sentinels(hanging: int) -> AsyncIterator[tuple[RedisServers, list[ScriptedRedis]]]:
    """Some Sentinels that hang and one that knows the master, which is itself, and what a client knows of them."""

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
async def test_a_push_connection_gets_past_those_that_hang(hanging: int) -> None:
    """However many Sentinels in front hang, the server is reached: each of them has a time of its own."""
    async with sentinels(hanging) as (servers, _):
        connection = PushConnection(servers, "limits", lambda _keys: None)
        await connection.open()
        await connection.close()


async def test_who_told_last_is_asked_first() -> None:
    """One that hangs is waited for once."""
    async with sentinels(1) as (servers, (hanging, telling)):
        assert await servers.holder("limits") == Address("127.0.0.1", telling.port)
        assert await servers.holder("limits") == Address("127.0.0.1", telling.port)
        assert hanging.connections == 1
        assert telling.connections == 2


async def test_nobody_tells() -> None:
    """All that hang are named."""
    async with sentinels(1) as (servers, (hanging, telling)):
        telling.answer = silence
        with pytest.raises(RedisConnectionError, match=f"nobody tells.*:{hanging.port}: .*:{telling.port}: "):
            await servers.refresh()


def test_a_slot_that_moves_is_no_lack_of_permission() -> None:
    """redis-py takes the word ASK out of the error's text."""
    assert RefusedError(AskError("3999 127.0.0.1:7001")).code == "ASK"
    assert RefusedError(ResponseError("unknown command")).code == "ERR"
