"""A link to a server that breaks, is demoted, or holds nothing any more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.processes.ports import free_port
from support.redis.scripted import OK, ScriptedRedis, scripted_redis
from support.waiting import until

from process.redis_url import Address, parse_redis_url
from sidecar.connections import link as redis_link
from sidecar.connections.errors import RejectedError, UnreachableError
from sidecar.connections.link import Link
from sidecar.connections.links import Links
from sidecar.connections.servers import RedisServers
from sidecar.connections.wire import Wire

READ_ONLY = b"-READONLY You can't write against a read only replica.\r\n"
PONG = b"+PONG\r\n"


class Demoted:
    """A server that answers pings, and rejects writes on its first connections; a later one leads to another server."""

    def __init__(self, writable_from: int) -> None:
        self._writable_from = writable_from
        self.redis: ScriptedRedis

    def answer(self, words: list[bytes]) -> bytes:
        """The answer to a command."""
        if words[0] == b"SET":
            return OK if self.redis.connections >= self._writable_from else READ_ONLY
        return PONG if words[0] == b"PING" else OK


@contextlib.asynccontextmanager
async def running(url: str) -> AsyncIterator[Links]:
    """Links that connect to a server."""
    links = Links(RedisServers(parse_redis_url(url)), 5.0)
    task = asyncio.create_task(links.run())
    try:
        yield links
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def linked(demoted: Demoted) -> AsyncIterator[Links]:
    """Links to it, in touch."""
    async with (
        scripted_redis(demoted.answer) as demoted.redis,
        running(f"redis://127.0.0.1:{demoted.redis.port}/0") as links,
    ):
        async with asyncio.timeout(60):
            await links.reached.wait()
        yield links


async def write(links: Links) -> None:
    """Writes as soon as there is a connection that isn't being given up."""
    async with asyncio.timeout(60):
        while True:
            link = links.holding(0)
            if link is not None and link.in_time:
                with contextlib.suppress(UnreachableError):
                    await link.call("SET", "key", "value")
                    return
            await asyncio.sleep(0.005)


async def test_a_demoted_master_is_connected_to_again() -> None:
    """Its connections stay open, and behind its only address there may be another server by now."""
    demoted = Demoted(writable_from=3)
    async with linked(demoted) as links:
        for _ in range(2):
            with pytest.raises(RejectedError, match="READONLY"):
                await write(links)
        await write(links)
        await write(links)
    assert demoted.redis.connections == 3


async def test_a_server_that_stays_read_only_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried, the log has one line about it, with what to do."""
    caplog.set_level("INFO")
    demoted = Demoted(writable_from=1000)
    async with linked(demoted) as links:
        for _ in range(5):
            with pytest.raises(RejectedError):
                await write(links)
    (record,) = [record for record in caplog.records if "Redis" in record.message]
    assert record.message == "Redis is a replica, so it rejects writes"
    assert "master" in record.hint  # type: ignore[attr-defined]


async def test_an_outage_is_logged_once_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line when the server can't be reached, one when it can."""
    caplog.set_level("INFO")
    monkeypatch.setattr(redis_link, "SETTLED_AFTER_S", 0.0)
    port = free_port()
    async with running(f"redis://127.0.0.1:{port}/0") as links:
        with pytest.raises(UnreachableError, match="not connected"):
            await links.to(Address("127.0.0.1", port)).call("GET")
        await until(lambda: links.to(Address("127.0.0.1", port))._backoff.failures >= 3)
        assert not links.all_in_time
        server = ScriptedRedis(lambda _: PONG)
        async with await asyncio.start_server(server.serve, "127.0.0.1", port):
            await until(lambda: "Redis is reachable" in caplog.messages)
            assert links.all_in_time
    assert caplog.messages == ["Redis is unreachable", "Redis is reachable"]


async def test_a_late_server_is_asked_until_it_is_in_time() -> None:
    """A caller that waited in vain keeps others from waiting, until a ping is answered in time."""
    demoted = Demoted(writable_from=0)
    async with linked(demoted) as links:
        link = links.holding(0)
        assert link is not None
        answered = demoted.answer
        demoted.redis.answer = lambda _: None
        link.report_late()
        assert not links.all_in_time
        await until(lambda: link._wire is None, "the ping that isn't answered ends the connection")
        demoted.redis.answer = answered
        await until(lambda: link.in_time)


async def test_links_follow_what_the_servers_say(caplog: pytest.LogCaptureFixture) -> None:
    """A server that a cluster names is linked to; one that holds no slot any more isn't linked to any longer."""
    caplog.set_level("WARNING")
    owner = {"port": 0}

    def answer(words: list[bytes]) -> bytes:
        if words[0] != b"CLUSTER":
            return PONG
        if not owner["port"]:
            return b"-CLUSTERDOWN it is forming\r\n"
        return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % owner["port"]

    async with (
        scripted_redis(answer) as first,
        scripted_redis(answer) as second,
        running(f"redis+cluster://127.0.0.1:{first.port}") as links,
    ):
        await until(lambda: first.connections >= 3, "it is asked again and again")
        assert links.holding(0) is None
        assert not links.all_in_time
        owner["port"] = first.port
        await until(lambda: links.all_in_time)
        owner["port"] = second.port
        link = links.follow_move(0, Address("127.0.0.1", second.port))
        assert links.holding(0) is link
        await until(lambda: links._links.keys() == {link.address} and link.in_time)
    assert [record.message for record in caplog.records] == ["Redis is unreachable"]
    assert "no node of the cluster answered" in caplog.records[0].reason  # type: ignore[attr-defined]


class Breaking:
    """Stands for RedisServers and for redis-py's connection: pongs until it is broken."""

    protocol = 2
    is_connected = True

    def __init__(self) -> None:
        self.broken = asyncio.get_running_loop().create_future()
        self._pongs: asyncio.Queue[bytes] = asyncio.Queue()

    async def connect(self, address: Address, **options: Any) -> Wire:
        """A connection."""
        return Wire(self, address, **options)  # type: ignore[arg-type]

    async def send_packed_command(self, _: list[bytes], **__: object) -> None:
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


@pytest.mark.parametrize("turns", range(12))
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


async def test_a_mistake_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """What isn't Redis' fault is an error, and doesn't end the link."""

    class Mistaken:
        attempts = 0

        async def connect(self, _: Address, **__: object) -> Wire:
            self.attempts += 1
            raise ZeroDivisionError

    servers = Mistaken()
    link = Link(servers, Address("server", 1), 5.0, lambda: None, lambda: None)  # type: ignore[arg-type]
    task = asyncio.create_task(link.run())
    await until(lambda: servers.attempts >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "ZeroDivisionError" in caplog.text
