"""The follower against fakeredis, which knows no CLIENT TRACKING, and against servers that misbehave."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from fakeredis import TcpFakeServer
from support.processes.ports import free_port
from support.redis.scripted import HANGS_UP, OK, RESP3, ScriptedRedis, scripted_redis
from support.waiting import until

from process.redis_url import parse_redis_url
from sidecar.connections import push as redis_push
from sidecar.connections.servers import RedisServers
from sidecar.limits.follower import FpsFollower, RedisState
from sidecar.limits.table import FpsTable
from sidecar.limits.values import FpsSource

KEY = "stream_fps_configs"
NO_COMMAND = b"-ERR unknown command\r\n"


@pytest.fixture
def fake_port() -> Iterator[int]:
    """The port of a fake Redis."""
    port = free_port()
    server = TcpFakeServer(("127.0.0.1", port))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield port
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.asynccontextmanager
async def following(port: int, states: list[RedisState] | None = None) -> AsyncIterator[FpsFollower]:
    """A follower at work, at a default of 1; its table is its ``_table``."""
    table = FpsTable(1.0, lambda _field, _value: None)
    url = parse_redis_url(f"redis://127.0.0.1:{port}/0")
    told = states if states is not None else []
    follower = FpsFollower(table, RedisServers(url), KEY, poll_s=0.02, on_state=told.append)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_where_tracking_is_refused_it_polls(fake_port: int) -> None:
    """Changes of a server that won't push are seen all the same, the wildcard's too."""
    states: list[RedisState] = []
    async with following(fake_port, states) as follower:
        table = follower._table
        await until(lambda: follower.state is RedisState.POLLING)
        assert not table.stale
        await follower.learn(["a", "b"])
        with redis.Redis(port=fake_port) as client:
            client.hset(KEY, mapping={"a": "5", "*": "3"})
            await until(lambda: table.limit("a").fps == 5.0 and table.limit("b").fps == 3.0)
            assert table.limit("b").source is FpsSource.WILDCARD
            client.hdel(KEY, "a")
            await until(lambda: table.limit("a").fps == 3.0)
            client.delete(KEY)
            await until(lambda: table.limit("a").fps == 1.0)
            assert follower.age_s() < 60.0
    assert RedisState.TRACKING not in states


async def test_a_first_frame_gets_the_value_of_its_stream(fake_port: int) -> None:
    """Learning a stream waits for its value, so that the first decision is already right."""
    with redis.Redis(port=fake_port) as client:
        client.hset(KEY, "a", "0.5")
    async with following(fake_port) as follower:
        await until(lambda: follower.state is RedisState.POLLING)
        await follower.learn(["a"])
        assert follower._table.watched["a"] == 0.5


class Name(str):
    """A name of which one can see whether anybody still has it."""


async def test_without_redis_nothing_is_kept_of_forgotten_streams() -> None:
    """However many names come and go while Redis is away, memory stays as it is."""
    async with following(free_port()) as follower:
        await follower.wait_for_first_attempt(60)
        name = Name("camera")
        kept = weakref.ref(name)
        await follower.learn([name])
        assert follower._table.watched == {"camera": None}
        follower._table.forget("camera")
        del name
        gc.collect()
        assert kept() is None


async def test_without_redis_nothing_waits() -> None:
    """With nobody there a first frame is decided at once, at the default, and the table says it is stale."""
    async with following(free_port()) as follower:
        await follower.wait_for_first_attempt(10.0)
        loop = asyncio.get_running_loop()
        # The test's own measure: learning must not even yield to the loop.
        learned = loop.create_task(follower.learn(["a"]))
        await asyncio.sleep(0)
        assert learned.done()
        assert follower._table.limit("a") == (1.0, FpsSource.DEFAULT)
        assert follower._table.stale
        assert follower.state is RedisState.AWAY


class Script:
    """A server that answers HMGET as told, and refuses to scan; CLIENT TRACKING and PING are fine."""

    def __init__(self) -> None:
        self.error = b""
        """The answer to HMGET; empty: all fields are absent."""
        self.silent = False
        self.redis = ScriptedRedis(self.answer)

    def answer(self, words: list[bytes]) -> bytes | None:
        """The answer to a command."""
        if self.silent:
            return None
        if words[0] == b"HSCAN":
            return NO_COMMAND
        if words[0] == b"HMGET":
            return self.error or b"*%d\r\n" % (len(words) - 2) + b"_\r\n" * (len(words) - 2)
        return RESP3 if words[0] == b"HELLO" else OK


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[int]:
    """Serves on a port until the block ends and the clients are gone."""
    async with scripted_redis(script.answer) as script.redis:
        yield script.redis.port


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[Script, int]]:
    """A scripted server and its port."""
    script = Script()
    async with serving(script) as port:
        yield script, port


async def test_a_server_that_never_answers_is_away(
    scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts and says nothing counts as away; waiting for the first attempt is bounded."""
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.1)
    script, port = scripted
    script.silent = True
    async with following(port) as follower:
        await follower.wait_for_first_attempt(0.001)
        await follower.wait_for_first_attempt(10.0)
        assert follower.state is RedisState.AWAY


@pytest.mark.parametrize(
    "error", [b"-NOPERM no permissions\r\n", b"-LOADING loading the dataset\r\n", b"-CLUSTERDOWN hash slot\r\n"]
)
async def test_errors_keep_the_last_good_table(scripted: tuple[Script, int], error: bytes) -> None:
    """A server that answers with an error is away: what was known stays in force until it can be read again."""
    script, port = scripted
    async with following(port) as follower:
        table = follower._table
        await until(lambda: follower.state is RedisState.TRACKING)
        table.store(["a"], [b"5"])
        script.error = error
        follower._pushed(None)
        await until(lambda: follower.state is RedisState.AWAY)
        assert table.limit("a").fps == 5.0
        assert table.stale
        script.error = b""
        await until(lambda: follower.state is RedisState.TRACKING)
        assert table.limit("a").fps == 1.0
        assert not table.stale


async def test_moved_is_followed(scripted: tuple[Script, int]) -> None:
    """A cluster node that hasn't the key names the one that has, and that one is followed."""
    other, other_port = scripted
    script = Script()
    script.error = b"-MOVED 1234 127.0.0.1:%d\r\n" % other_port
    async with serving(script) as port, following(port) as follower:
        await until(lambda: follower.state is RedisState.TRACKING)
        assert (script.redis.connections, other.redis.connections) == (1, 1)


@pytest.mark.parametrize("refused", [{b"HSCAN"}, {b"CLIENT"}, {b"HSCAN", b"CLIENT"}])
async def test_a_proxy_that_hangs_up_on_what_it_refuses_is_done_without(refused: set[bytes]) -> None:
    """The connection after it doesn't ask again, so the limits are read, and followed as well as may be."""
    script = Script()

    def answer(words: list[bytes]) -> bytes | None:
        return NO_COMMAND + HANGS_UP if words[0] in refused else script.answer(words)

    async with scripted_redis(answer) as proxy, following(proxy.port) as follower:
        await until(lambda: follower.state is not RedisState.AWAY)
        assert follower.state is (RedisState.POLLING if b"CLIENT" in refused else RedisState.TRACKING)


async def test_one_wait_in_an_outage(scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """When Redis hangs, the first new stream waits in vain; those after it don't wait at all."""
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.3)
    script, port = scripted
    async with following(port) as follower:
        await until(lambda: follower.state is RedisState.TRACKING)
        script.silent = True
        async with asyncio.timeout(60.0):
            await follower.learn(["a"])
        learned = asyncio.get_running_loop().create_task(follower.learn(["b"]))
        await asyncio.sleep(0)
        assert learned.done()
        assert {"a", "b"} <= set(follower._table.watched)
        await until(lambda: follower.state is RedisState.AWAY)
        script.silent = False
        await until(lambda: follower.state is RedisState.TRACKING)
        # It answers again, so the next new stream waits for its value again.
        learned = asyncio.get_running_loop().create_task(follower.learn(["c"]))
        await asyncio.sleep(0)
        assert not learned.done()
        await learned


async def test_a_lost_connection_lets_waiters_go(scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a first reading goes on as soon as the connection is lost, and isn't forgotten."""
    monkeypatch.setattr("sidecar.limits.follower.FIRST_READING_S", 60.0)
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.1)
    script, port = scripted
    async with following(port) as follower:
        await until(lambda: follower.state is RedisState.TRACKING)
        script.silent = True
        async with asyncio.timeout(50.0):
            await follower.learn(["a"])
        assert "a" in follower._table.watched
        await until(lambda: follower.state is RedisState.AWAY)
        script.silent = False
        await until(lambda: follower.state is RedisState.TRACKING)


async def test_a_mistake_of_ours_doesnt_end_the_following(
    scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is logged with its traceback, and the hash is followed again."""
    _, port = scripted
    async with following(port) as follower:
        await until(lambda: follower.state is RedisState.TRACKING)
        with monkeypatch.context() as patch:
            patch.setattr(follower._table, "store_wildcard", None)
            follower._pushed(None)
            await until(lambda: follower.state is RedisState.AWAY)
        await until(lambda: follower.state is RedisState.TRACKING)
    assert "TypeError" in caplog.text


async def test_other_keys_with_the_same_prefix_cause_no_reading(scripted: tuple[Script, int]) -> None:
    """Tracking goes by prefix; a push about another key is none of ours."""
    _, port = scripted
    async with following(port) as follower:
        await until(lambda: follower.state is RedisState.TRACKING)
        follower._pushed([b"stream_fps_configs:old"])
        assert not follower._dirty
        follower._pushed([b"stream_fps_configs:old", KEY.encode()])
        assert follower._dirty


async def test_it_can_be_cancelled_at_any_time(scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However far it is with connecting, reading, or hanging up, a cancelled follower ends and closes its connection."""
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.02)
    script, port = scripted
    for turns in range(60):
        script.silent = turns % 3 == 2
        follower = FpsFollower(
            FpsTable(1.0, lambda _field, _value: None),
            RedisServers(parse_redis_url(f"redis://127.0.0.1:{port}/0")),
            KEY,
        )
        task = asyncio.create_task(follower.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        if script.silent:
            await until(lambda follower=follower: follower._tried.is_set())  # type: ignore[misc]
        task.cancel()
        _, running = await asyncio.wait((task,), timeout=120)
        assert not running
    await until(lambda: script.redis.open == 0)
