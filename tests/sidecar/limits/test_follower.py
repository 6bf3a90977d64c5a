"""What the follower reads and when: from fakeredis, which doesn't know CLIENT TRACKING, and from a scripted server."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import redis
from fakeredis import TcpFakeServer
from support.processes.ports import free_port
from support.redis.following import CHANGED, KEY, Following, Script, following, serving
from support.waiting import until

from handcounter.pacing.limits import FpsSource
from sidecar.connections import push as redis_push
from sidecar.connections.errors import Problem
from sidecar.limits.follower import CHUNK
from sidecar.limits.following import RedisState


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


async def test_a_first_frame_gets_the_value_of_its_stream(fake_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning a stream waits for its value, so that the first decision is already right."""
    monkeypatch.setattr("sidecar.limits.follower.FIRST_READING_S", 60.0)  # however busy the machine is
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 60.0)
    with redis.Redis(port=fake_port) as client:
        client.hset(KEY, "a", "0.5")
    async with following(fake_port) as made:
        await made.until(RedisState.POLLING)
        await made.learn("a")
        assert made.table.watched["a"] == 0.5


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


async def test_a_redirection_is_followed(scripted: tuple[Script, int]) -> None:
    """A cluster node that doesn't hold the key names the one that does, and that one is followed."""
    other, other_port = scripted
    script = Script()
    script.error = b"-MOVED 1234 127.0.0.1:%d\r\n" % other_port
    async with serving(script) as port, following(port) as made:
        await made.until(RedisState.TRACKING)
        assert (script.redis.connections, other.redis.connections) == (1, 1)


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
