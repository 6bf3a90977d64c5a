"""The feed of what other replicas' claims change: from a real server, and from servers that misbehave."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from support.redis.scripted import HANGS_UP, ScriptedRedis, scripted_redis
from support.redis.topologies import plain_client
from support.redis.valkey import Valkey, valkey
from support.waiting import until

from handcounter.pacing.schedule import Pacing
from process.redis_url import parse_redis_url
from sidecar.connections.servers import RedisServers
from sidecar.fleet import claim_feed
from sidecar.fleet.claim_feed import ClaimFeed
from sidecar.fleet.claims import (
    CLAIM_SCRIPT,
    NO_STATE,
    Claim,
    Claimed,
    State,
    channel,
    packed_claims,
    packed_constants,
    unpacked_answers,
)

SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
"""What a server with a subscriber answers, by RESP2."""


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server for all tests that don't stop it."""
    with valkey() as running:
        yield running


class Heard:
    """A feed at work, the changes that it heard, and its gaps."""

    def __init__(self, url: str) -> None:
        self.changes: list[tuple[str, State]] = []
        self.listening: list[bool] = []
        self.feed = ClaimFeed(
            RedisServers(parse_redis_url(url)), lambda *change: self.changes.append(change), self.listening.append
        )


@contextlib.asynccontextmanager
async def hearing(url: str) -> AsyncIterator[Heard]:
    """Runs a feed while the block runs."""
    heard = Heard(url)
    task = asyncio.create_task(heard.feed.run())
    try:
        yield heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def listening(url: str) -> AsyncIterator[Heard]:
    """Runs a feed while the block runs, which begins when it listens."""
    async with hearing(url) as heard:
        await until(lambda: heard.listening)
        yield heard


def ask(server: Valkey, *claims: Claim) -> list[Claimed]:
    """Lets the server decide claims, as a replica does."""
    keys, states, frames = packed_claims(claims)
    with plain_client(server.port) as client:
        reply = client.eval(CLAIM_SCRIPT, len(keys), *keys, packed_constants(Pacing.GCRA), channel(0), states, frames)
        return unpacked_answers(reply)


def claim(ts: float, name: str = "cam") -> Claim:
    return Claim(name, ts, 1.0, NO_STATE)


async def test_admissions_of_others_are_heard(server: Valkey) -> None:
    """The others receive each state that the claims of one replica change."""
    async with listening(server.url) as heard:
        answers = ask(server, claim(1.0, "a"), claim(2.0, "b"), claim(1.5, "a"))
        await until(lambda: len(heard.changes) >= 2)
    assert heard.changes == [("a", answers[0].state), ("b", answers[1].state)]


async def test_databases_do_not_mix(server: Valkey) -> None:
    """Two fleets in two databases of one server receive nothing of each other."""
    other = server.url.removesuffix("0") + "1"
    async with listening(other) as foreign, listening(server.url) as heard:
        ask(server, claim(1.0, "mixed"))
        await until(lambda: heard.changes)
    assert foreign.changes == []


async def test_gaps_are_reported() -> None:
    """Each loss of the connection is, and each return: what was published in between is missing."""
    with valkey() as server:
        async with listening(server.url) as heard:
            with plain_client(server.port) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: heard.listening == [True, False, True])


async def test_a_foreign_message_is_ignored(server: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    """A message that no claim published is logged and does no harm."""
    async with listening(server.url) as heard:
        with plain_client(server.port) as client:
            client.publish(channel(0), b"hello")
        ask(server, claim(1.0, "after"))
        await until(lambda: heard.changes)
    assert heard.listening == [True, False]
    (record,) = caplog.records
    assert record.message == "ignored a foreign message on the channel of the claims"
    assert "not a message of a claim" in record.reason  # type: ignore[attr-defined]


class Script:
    """Answers SUBSCRIBE and PING, unless a test sets something else."""

    def __init__(self) -> None:
        self.answers: dict[bytes, bytes | None] = {b"SUBSCRIBE": SUBSCRIBED, b"PING": PONG}
        self.asked: list[bytes] = []

    def answer(self, words: list[bytes]) -> bytes | None:
        """The answer to a command."""
        self.asked.append(words[0])
        return self.answers.get(words[0], b"+OK\r\n")


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Script, ScriptedRedis, str]]:
    """A scripted server, which is asked often whether it is there, and its URL."""
    monkeypatch.setattr(claim_feed, "PING_EVERY_S", 0.05)
    script = Script()
    async with scripted_redis(script.answer) as redis:
        yield script, redis, f"redis://127.0.0.1:{redis.port}/0"


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Returns the level and the reason, or Redis's error, of each line about the feed."""
    return [
        (record.levelname, vars(record).get("reason") or vars(record)["error"])
        for record in caplog.records
        if record.message == "can't receive the claims of other replicas"
    ]


async def test_a_quiet_channel_is_no_gap(scripted: tuple[Script, ScriptedRedis, str]) -> None:
    """A server that answers pings has nothing to say."""
    script, redis, url = scripted
    async with listening(url) as heard:
        await until(lambda: script.asked.count(b"PING") > 3)
        assert heard.listening == [True]
    assert redis.connections == 1


async def test_a_hanging_server_is_a_gap(
    scripted: tuple[Script, ScriptedRedis, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A connection on which a ping isn't answered is replaced, and the loss is logged with its reason."""
    script, redis, url = scripted
    async with listening(url) as heard:
        script.answers[b"PING"] = None
        await until(lambda: heard.listening[:2] == [True, False])
        script.answers[b"PING"] = PONG
        await until(lambda: heard.listening[-1])
    assert redis.connections > 1
    assert warnings(caplog)[0] == ("WARNING", "no answer within 0.05 s")


async def test_a_closed_connection_is_a_gap_at_once(
    scripted: tuple[Script, ScriptedRedis, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is noticed before the next ping."""
    monkeypatch.setattr(claim_feed, "PING_EVERY_S", 1e6)
    _, redis, url = scripted
    async with listening(url) as heard:
        for writer in list(redis._writers):
            writer.close()
        await until(lambda: heard.listening == [True, False, True])
    assert [level for level, _ in warnings(caplog)] == ["WARNING"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"-NOPERM no channel\r\n", "NOPERM no channel"), (HANGS_UP, "was lost")],
    ids=["rejected", "hangs up"],
)
async def test_a_server_that_takes_no_subscriber_is_tried_again(
    scripted: tuple[Script, ScriptedRedis, str], answer: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure is a warning, those after it aren't; the feed listens as soon as the server lets it."""
    caplog.set_level(logging.DEBUG, "sidecar.fleet.claim_feed")
    script, _, url = scripted
    script.answers[b"SUBSCRIBE"] = answer
    async with hearing(url) as heard:
        await until(lambda: len(warnings(caplog)) >= 3)
        assert True not in heard.listening
        script.answers[b"SUBSCRIBE"] = SUBSCRIBED
        await until(lambda: True in heard.listening)
    lines = warnings(caplog)
    assert [level for level, _ in lines[:3]] == ["WARNING", "DEBUG", "DEBUG"]
    assert all(reason in said for _, said in lines)


async def test_an_unexpected_error_does_not_end_the_feed(
    scripted: tuple[Script, ScriptedRedis, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged with its type, and the feed listens again."""
    _, _, url = scripted
    heard = Heard(url)

    async def fail(_: bytes) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError("no such slot")

    monkeypatch.setattr(heard.feed._servers, "holder", fail)
    task = asyncio.create_task(heard.feed.run())
    await until(lambda: True in heard.listening)
    task.cancel()
    assert warnings(caplog) == [("WARNING", "ZeroDivisionError('no such slot')")]
    with contextlib.suppress(asyncio.CancelledError):
        await task
