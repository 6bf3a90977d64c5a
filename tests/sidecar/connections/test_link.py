"""A link to a server that breaks, is demoted, or is no longer wanted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from support.redis.scripted import OK, RESP3, ScriptedRedis, scripted_redis

from process.redis_url import Address, parse_redis_url
from sidecar.connections.link import Link, Links
from sidecar.connections.servers import RedisServers

READ_ONLY = b"-READONLY You can't write against a read only replica.\r\n"


class Demoted:
    """A server that pongs, and takes writes only on a few of its connections: by another one another server is reached."""

    def __init__(self, writable_from: int) -> None:
        self._writable_from = writable_from
        self.redis: ScriptedRedis

    def answer(self, words: list[bytes]) -> bytes:
        """The answer to a command."""
        if words[0] == b"SET":
            return OK if self.redis.connections >= self._writable_from else READ_ONLY
        return {b"PING": b"+PONG\r\n", b"HELLO": RESP3}.get(words[0], OK)


@contextlib.asynccontextmanager
async def linked(demoted: Demoted) -> AsyncIterator[Links]:
    """Links to it, in touch."""
    async with scripted_redis(demoted.answer) as demoted.redis:
        links = Links(RedisServers(parse_redis_url(f"redis://127.0.0.1:{demoted.redis.port}/0")), 5.0)
        running = asyncio.create_task(links.run())
        try:
            async with asyncio.timeout(60):
                await links.reached.wait()
            yield links
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def written(links: Links) -> None:
    """Writes as soon as there is a connection that isn't being given up."""
    async with asyncio.timeout(60):
        while True:
            link = links.holding(0)
            if link is not None and link.in_time:
                with contextlib.suppress(RedisConnectionError):
                    await link.call("SET", "key", "value")
                    return
            await asyncio.sleep(0.005)


async def test_a_demoted_master_is_connected_to_anew() -> None:
    """Its connections stay open, and behind its only address there may be another server by now."""
    demoted = Demoted(writable_from=3)
    async with linked(demoted) as links:
        for _ in range(2):
            with pytest.raises(ReadOnlyError):
                await written(links)
        await written(links)
        await written(links)
    assert demoted.redis.connections == 3


async def test_a_server_that_stays_read_only_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried, the log has one line about it."""
    caplog.set_level("INFO")
    demoted = Demoted(writable_from=1000)
    async with linked(demoted) as links:
        for _ in range(5):
            with pytest.raises(ReadOnlyError):
                await written(links)
    assert [message for message in caplog.messages if "Redis" in message] == ["a server of Redis is away"]


class Breaking:
    """Stands for RedisServers: connections that pong until they are broken."""

    def __init__(self) -> None:
        self.broken = asyncio.get_running_loop().create_future()
        self.connections = 0
        self._pongs: asyncio.Queue[bytes] = asyncio.Queue()

    async def connect(self, _: Address) -> "Breaking":
        """A connection."""
        self.connections += 1
        return self

    async def send_packed_command(self, _: list[bytes]) -> None:
        """The answer to each command is PONG."""
        self._pongs.put_nowait(b"PONG")

    async def read_response(self, **_: object) -> bytes:
        """Gives an answer, or fails once the connection is broken."""
        pong = asyncio.ensure_future(self._pongs.get())
        await asyncio.wait((pong, self.broken), return_when=asyncio.FIRST_COMPLETED)
        if pong.done():
            return pong.result()
        pong.cancel()
        raise RedisConnectionError("hung up")

    async def disconnect(self, **_: object) -> None:
        """Nothing is to be done."""


@pytest.mark.parametrize("turns", range(9))
async def test_it_ends_when_it_is_cancelled(turns: int) -> None:
    """Also where the connection broke just before, however many turns of the event loop lie between."""
    servers = Breaking()
    in_time = asyncio.Event()
    link = Link(servers, Address("server", 1), 5.0, lambda: None, in_time.set)  # type: ignore[arg-type]
    running = asyncio.create_task(link.run())
    await in_time.wait()
    servers.broken.set_result(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait((running,), timeout=60)
    assert done
    assert running.cancelled()
