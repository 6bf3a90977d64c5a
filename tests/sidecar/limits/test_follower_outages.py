"""The follower while Redis is unreachable, rejects what it asks, or fails again and again."""

import asyncio
import gc
import weakref

import pytest
from support.processes.ports import free_port
from support.redis.following import CHANGED, NO_COMMAND, Script, following
from support.redis.scripted import HANGS_UP, scripted_redis
from support.waiting import until

from handcounter.pacing.limits import FpsSource
from sidecar.connections import push as redis_push
from sidecar.connections.errors import Problem
from sidecar.limits.following import RedisState


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
