"""The follower against fakeredis, which doesn't know CLIENT TRACKING, and against servers that misbehave."""

import asyncio
import contextlib
import gc
import threading
import time
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
from sidecar.connections.errors import Problem
from sidecar.connections.servers import RedisServers
from sidecar.limits.follower import CHUNK, FpsFollower, RedisState
from sidecar.limits.table import FpsTable
from sidecar.limits.values import FpsSource

KEY = "stream_fps_configs"
NO_COMMAND = b"-ERR unknown command\r\n"
CHANGED = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$18\r\nstream_fps_configs\r\n"
"""The push about a change of the hash."""


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


class Following:
    """A follower at work, its table with a default of 1, and the states that it reported."""

    def __init__(self, port: int) -> None:
        self.table = FpsTable(1.0, lambda _field, _value: None, clock=time.monotonic)
        self.states: list[RedisState] = []
        self.problems: list[str] = []
        servers = RedisServers(parse_redis_url(f"redis://127.0.0.1:{port}/0"))
        self.follower = FpsFollower(
            self.table, servers, KEY, poll_s=0.02, on_state=self.states.append, on_problem=self.problems.append
        )

    async def until(self, state: RedisState) -> None:
        """Waits for a state."""
        await until(lambda: self.follower.state is state, state.name)

    async def learn(self, *stream_names: str) -> None:
        """Learns new streams, as their first frames do."""
        await self.follower.learn(stream_names)

    async def learns_at_once(self, stream_name: str) -> bool:
        """Learns a stream; returns whether that didn't even yield to the event loop."""
        learning = asyncio.create_task(self.learn(stream_name))
        await asyncio.sleep(0)
        at_once = learning.done()
        await learning
        return at_once


@contextlib.asynccontextmanager
async def following(port: int) -> AsyncIterator[Following]:
    """A follower of the hash in the server at this port."""
    made = Following(port)
    task = asyncio.create_task(made.follower.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_without_tracking_it_polls(fake_port: int) -> None:
    """Changes of a server that doesn't push are seen all the same, the wildcard's too."""
    async with following(fake_port) as made:
        table = made.table
        await made.until(RedisState.POLLING)
        assert not table.stale
        await made.learn("a", "b")
        with redis.Redis(port=fake_port) as client:
            client.hset(KEY, mapping={"a": "5", "*": "3"})
            await until(lambda: table.limit("a").fps == 5.0 and table.limit("b").fps == 3.0)
            assert table.limit("b").source is FpsSource.WILDCARD
            client.hdel(KEY, "a")
            await until(lambda: table.limit("a").fps == 3.0)
            client.delete(KEY)
            await until(lambda: table.limit("a").fps == 1.0)
            assert made.follower.age_s() < 60.0
    assert RedisState.TRACKING not in made.states


async def test_a_first_frame_gets_the_value_of_its_stream(fake_port: int) -> None:
    """Learning a stream waits for its value, so that the first decision is already right."""
    with redis.Redis(port=fake_port) as client:
        client.hset(KEY, "a", "0.5")
    async with following(fake_port) as made:
        await made.until(RedisState.POLLING)
        await made.learn("a")
        assert made.table.watched["a"] == 0.5


class Name(str):
    """A name that can be referenced weakly, to see whether anything still keeps it."""


async def test_without_redis_nothing_is_kept_of_forgotten_streams() -> None:
    """However many names come and go while Redis is unreachable, memory stays as it is."""
    async with following(free_port()) as made:
        await made.follower.wait_for_first_attempt(60)
        name = Name("camera")
        kept = weakref.ref(name)
        await made.learn(name)
        assert made.table.watched == {"camera": None}
        made.table.forget("camera")
        del name
        gc.collect()
        assert kept() is None


async def test_without_redis_nothing_waits() -> None:
    """Without a server a first frame is decided at once, at the default, and the table is stale."""
    async with following(free_port()) as made:
        await made.follower.wait_for_first_attempt(60.0)
        assert await made.learns_at_once("a")
        assert made.table.limit("a") == (1.0, FpsSource.DEFAULT)
        assert made.table.stale
        assert made.follower.state is RedisState.AWAY
        assert made.states == [RedisState.AWAY]


class Script:
    """Answers HMGET as a test sets it, and rejects HSCAN; CLIENT TRACKING and PING succeed."""

    def __init__(self) -> None:
        self.error = b""
        """The answer to HMGET; empty if all fields are absent."""
        self.silent = False
        self.read: list[list[bytes]] = []
        """The fields of each HMGET."""
        self.redis = ScriptedRedis(self.answer)

    def answer(self, words: list[bytes]) -> bytes | None:
        """The answer to a command."""
        if self.silent:
            return None
        if words[0] == b"HSCAN":
            return NO_COMMAND
        if words[0] == b"HMGET":
            self.read.append(words[2:])
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


async def test_a_server_that_never_answers_is_unreachable(
    scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts and says nothing is unreachable; waiting for the first attempt is bounded."""
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.1)
    script, port = scripted
    script.silent = True
    async with following(port) as made:
        await made.follower.wait_for_first_attempt(0.001)
        await made.follower.wait_for_first_attempt(60.0)
        assert made.follower.state is RedisState.AWAY


@pytest.mark.parametrize(
    ("error", "summary", "hint", "problem"),
    [
        (b"-NOPERM no permissions\r\n", "Redis denies this user a permission", "redis-acl.md", Problem.NOPERM),
        (b"-NOAUTH Authentication required.\r\n", "Redis demands a password", "password", Problem.NOAUTH),
        (b"-WRONGPASS invalid\r\n", "Redis rejected the user or the password", "check the user", Problem.WRONGPASS),
        (b"-LOADING loading the dataset\r\n", "Redis is still loading its data", "wait", Problem.LOADING),
        (b"-CLUSTERDOWN hash slot\r\n", "Redis rejected a command", "cluster", Problem.OTHER),
        (
            b"-ERR Protocol error: unauthenticated multibulk length\r\n",
            "Redis demands a password",
            "password",
            Problem.NOAUTH,
        ),
    ],
)
async def test_errors_keep_the_last_good_table(
    scripted: tuple[Script, int],
    error: bytes,
    summary: str,
    hint: str,
    problem: Problem,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that rejects the reading: the known limits stay in force, and the error is named with what to do."""
    caplog.set_level("WARNING")
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        made.table.store(["a"], [b"5"])
        script.error = error
        script.redis.push(CHANGED)
        await made.until(RedisState.AWAY)
        connections = script.redis.connections
        await until(lambda: script.redis.connections > connections + 1, "it is tried again")
        assert made.table.limit("a").fps == 5.0
        assert made.table.stale
        assert made.follower.problem is problem
        assert hint in made.follower.problem_sentence
        assert error.decode()[1:-2] in made.follower.problem_sentence
        script.error = b""
        await made.until(RedisState.TRACKING)
        assert (made.follower.problem, made.problems[0], made.problems[-1]) == (None, "", "")
        assert made.table.limit("a").fps == 1.0
        assert not made.table.stale
    (record,) = [record for record in caplog.records if "in force" in record.message]
    assert record.message == f"{summary}; the last known limits stay in force"
    assert record.error == error.decode()[1:-2]  # type: ignore[attr-defined]
    assert hint in record.hint  # type: ignore[attr-defined]


async def test_a_key_of_another_type_keeps_the_last_limits(
    scripted: tuple[Script, int], caplog: pytest.LogCaptureFixture
) -> None:
    """It isn't an outage, but a problem. It is logged once, and again after the key was a hash in between."""
    caplog.set_level("WARNING")
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        for times in (1, 2):
            made.table.store(["paused", "asleep"], [b"0", b"0"])
            made.table.store_wildcard(b"0.5")
            made.table.put_to_sleep("asleep")
            script.error = b"-WRONGTYPE not a hash\r\n"
            for _ in range(2):
                readings = len(script.read)
                script.redis.push(CHANGED)
                await until(lambda readings=readings: len(script.read) > readings)
            await until(lambda: made.follower.problem is Problem.WRONGTYPE)
            agreed_at = made.follower._agreed_at
            await made.learn(f"new {times}", "asleep")
            assert made.table.limit("paused").fps == 0.0
            assert made.table.limit("asleep").fps == 0.0
            assert made.table.limit(f"new {times}").fps == 0.5
            assert made.table.stale
            assert made.follower._agreed_at == agreed_at
            assert "'stream_fps_configs' isn't a hash (delete it" in made.problems[-1]
            assert [record.key for record in caplog.records] == [KEY] * times  # type: ignore[attr-defined]
            script.error = b""
            script.redis.push(CHANGED)
            await until(lambda: made.follower.problem is None)
            assert not made.table.stale
            assert made.table.limit("paused").fps == 1.0
    assert made.states == [RedisState.TRACKING]


@pytest.mark.parametrize("rejected", [b"-MISCONF can't save\r\n", b"-NOPERM no ping\r\n"])
async def test_a_server_that_answers_reads_is_reachable(
    scripted: tuple[Script, int], rejected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it rejects PING, as one does that can't save its data: the table stays current."""
    monkeypatch.setattr("sidecar.limits.reading_plan.HEARTBEAT_S", 0.01)
    script, port = scripted
    answer = script.answer
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        pings = 0

        def without_pings(words: list[bytes]) -> bytes | None:
            nonlocal pings
            pings += words[0] == b"PING"
            if words[0] == b"PING":
                return rejected
            return b"-NOPERM no\r\n" if words in ([b"ROLE"], [b"HELLO"]) else answer(words)

        script.redis.answer = without_pings
        await until(lambda: pings > 1)
        agreed_at = made.follower._agreed_at
        await until(lambda: pings > 5)
        assert made.follower._agreed_at > agreed_at
        assert made.states == [RedisState.TRACKING]
        assert script.redis.connections == 1


async def test_a_server_that_fails_again_and_again_isnt_reported_as_back_each_time(
    scripted: tuple[Script, int],
) -> None:
    """After a few losses a recovery counts once it lasts. Until then its limits are in force, but flagged as stale."""
    script, port = scripted
    async with following(port) as made:
        for connection in range(1, 9):
            await until(lambda connection=connection: script.redis.connections >= connection)
            await until(lambda: made.follower._readable)
            for writer in list(script.redis._writers):
                writer.close()
            await until(lambda: not made.follower._readable)
        assert made.states == [RedisState.TRACKING, RedisState.AWAY] * 4
        await until(lambda: made.follower._readable)
        assert made.table.stale
        assert not await made.learns_at_once("new")
        await made.until(RedisState.TRACKING)
        assert not made.table.stale


async def test_a_redirection_is_followed(scripted: tuple[Script, int]) -> None:
    """A cluster node that doesn't hold the key names the one that does, and that one is followed."""
    other, other_port = scripted
    script = Script()
    script.error = b"-MOVED 1234 127.0.0.1:%d\r\n" % other_port
    async with serving(script) as port, following(port) as made:
        await made.until(RedisState.TRACKING)
        assert (script.redis.connections, other.redis.connections) == (1, 1)


@pytest.mark.parametrize("rejected", [{b"HSCAN"}, {b"CLIENT"}, {b"ROLE"}, {b"HSCAN", b"CLIENT", b"ROLE"}])
async def test_a_proxy_that_hangs_up_on_what_it_rejects(rejected: set[bytes]) -> None:
    """The next connection doesn't ask again, so the limits are read, and followed as well as possible."""
    script = Script()

    def answer(words: list[bytes]) -> bytes | None:
        return NO_COMMAND + HANGS_UP if words[0] in rejected else script.answer(words)

    async with scripted_redis(answer) as proxy, following(proxy.port) as made:
        await until(lambda: made.follower.state is not RedisState.AWAY)
        expected = RedisState.POLLING if b"CLIENT" in rejected else RedisState.TRACKING
        assert made.follower.state is expected


async def test_one_wait_in_an_outage(scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """When Redis hangs, the first new stream waits in vain; those after it don't wait at all."""
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.3)
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        script.silent = True
        async with asyncio.timeout(60.0):
            await made.learn("a")
        assert await made.learns_at_once("b")
        assert {"a", "b"} <= set(made.table.watched)
        await made.until(RedisState.AWAY)
        script.silent = False
        await made.until(RedisState.TRACKING)
        # It answers again, so the next new stream waits for its value again.
        assert not await made.learns_at_once("c")


async def test_a_lost_connection_lets_first_frames_go_on(
    scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first frame that waits goes on as soon as the connection is lost, and its stream is watched."""
    monkeypatch.setattr("sidecar.limits.follower.FIRST_READING_S", 60.0)
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.1)
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        script.silent = True
        async with asyncio.timeout(50.0):
            await made.learn("a")
        assert "a" in made.table.watched
        await made.until(RedisState.AWAY)
        script.silent = False
        await made.until(RedisState.TRACKING)


async def test_a_lost_connection_is_noticed_at_once(
    scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a command under way, and before the next heartbeat."""
    monkeypatch.setattr("sidecar.limits.reading_plan.HEARTBEAT_S", 1e6)
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        for writer in script.redis._writers:
            writer.close()
        await made.until(RedisState.AWAY)
        await made.until(RedisState.TRACKING)
        assert made.states == [RedisState.TRACKING, RedisState.AWAY, RedisState.TRACKING]


async def test_heartbeats_keep_the_table_current(scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping that is answered says that no change was missed."""
    monkeypatch.setattr("sidecar.limits.reading_plan.HEARTBEAT_S", 0.01)
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        readings = len(script.read)
        agreed_at = made.follower._agreed_at
        await until(lambda: made.follower._agreed_at > agreed_at)
        assert len(script.read) == readings


async def test_a_new_stream_is_read_between_the_parts_of_a_long_reading(
    scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first frame doesn't wait for the thousands of other streams."""
    monkeypatch.setattr("sidecar.limits.follower.FIRST_READING_S", 60.0)
    script, port = scripted
    learning: list[asyncio.Task[None]] = []
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        made.table.assume(f"stream {number}" for number in range(3 * CHUNK))
        script.read.clear()
        answer = script.answer

        def meanwhile(words: list[bytes]) -> bytes | None:
            if words[0] == b"HMGET" and not learning:
                learning.append(asyncio.create_task(made.learn("new")))
            return answer(words)

        script.redis.answer = meanwhile
        script.redis.push(CHANGED)
        await until(lambda: len(script.read) == 5)
        assert [len(fields) for fields in script.read] == [CHUNK, 1, CHUNK, CHUNK, 1]
        assert script.read[1] == [b"new"]
        await learning[0]
        assert "new" in made.table.watched


async def test_many_new_streams_are_read_in_parts(scripted: tuple[Script, int]) -> None:
    """A batch of new streams doesn't stall the event loop for long."""
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        script.read.clear()
        await made.learn(*(f"stream {number}" for number in range(CHUNK + 1)))
        assert [len(fields) for fields in script.read] == [CHUNK, 1]


async def test_a_stream_that_is_forgotten_while_it_is_read_stays_so(scripted: tuple[Script, int]) -> None:
    """The answer about it comes too late to bring it back."""
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        made.table.assume(["a", "b"])
        answer = script.answer

        def meanwhile(words: list[bytes]) -> bytes | None:
            made.table.forget("a")
            return answer(words)

        script.read.clear()
        script.redis.answer = meanwhile
        script.redis.push(CHANGED)
        await until(lambda: script.read)
        await made.learn("c")
        assert set(made.table.watched) == {"b", "c"}


async def test_an_unexpected_error_doesnt_end_the_following(
    scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, and the hash is followed again."""
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        with monkeypatch.context() as patch:
            patch.setattr(made.table, "store_wildcard", None)
            script.redis.push(CHANGED)
            await made.until(RedisState.AWAY)
        await made.until(RedisState.TRACKING)
    assert "TypeError" in caplog.text


async def test_other_keys_with_the_same_prefix_cause_no_reading(scripted: tuple[Script, int]) -> None:
    """Tracking goes by prefix, so pushes about other keys come too."""
    script, port = scripted
    async with following(port) as made:
        await made.until(RedisState.TRACKING)
        readings = len(script.read)
        script.redis.push(CHANGED.replace(b"$18\r\nstream_fps_configs", b"$22\r\nstream_fps_configs:old"))
        await made.learn("a")  # answered after the push
        assert (made.follower.pushes, len(script.read)) == (0, readings + 1)
        script.redis.push(CHANGED)
        await until(lambda: len(script.read) > readings + 1)
        assert made.follower.pushes == 1


async def test_it_can_be_cancelled_at_any_time(scripted: tuple[Script, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However far it is with connecting, reading or hanging up, a cancelled follower ends and closes its connection."""
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.02)
    script, port = scripted
    for turns in range(60):
        script.silent = turns % 3 == 2
        follower = Following(port).follower
        task = asyncio.create_task(follower.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        if script.silent:
            await follower.wait_for_first_attempt(60.0)
        task.cancel()
        _, running = await asyncio.wait((task,), timeout=120)
        assert not running
    await until(lambda: script.redis.open == 0)
