"""The connection on which Redis pushes changes, to servers that do and that don't."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from support.processes.ports import free_port
from support.redis.scripted import HANGS_UP, OK, RESP3, Answer, ScriptedRedis, scripted_redis
from support.waiting import until

from process.redis_url import Address, parse_redis_url
from sidecar.connections import push as redis_push
from sidecar.connections.errors import RejectedError, UnreachableError
from sidecar.connections.push import PushConnection
from sidecar.connections.servers import RedisServers

KEY = "limits"


class Changes:
    """A push connection to a scripted server, and what it reports."""

    def __init__(self, server: ScriptedRedis) -> None:
        self.server = server
        self.pushes: list[list[bytes] | None] = []
        self.losses = 0
        servers = RedisServers(parse_redis_url(f"redis://127.0.0.1:{server.port}/0"))
        self.connection = PushConnection(servers, KEY, self.pushes.append, self._lost)

    def _lost(self) -> None:
        self.losses += 1


@contextlib.asynccontextmanager
async def changes(answer: Answer) -> AsyncIterator[Changes]:
    """A push connection to a server with these answers, not open yet."""
    async with scripted_redis(answer) as server:
        made = Changes(server)
        try:
            yield made
        finally:
            await made.connection.close()


async def test_pushes_name_the_keys_or_all_of_them() -> None:
    """FLUSHALL is a push without keys. Pushes of other kinds are nothing."""
    one = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\nlimits\r\n"
    every = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
    message = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"
    commands: list[list[bytes]] = []

    def answer(words: list[bytes]) -> bytes:
        commands.append(words)
        return RESP3 if words[0] == b"HELLO" else OK + one + message + every

    async with changes(answer) as made:
        await made.connection.open()
        await made.connection.track(KEY)
        await until(lambda: len(made.pushes) == 2)
        assert made.pushes == [[b"limits"], None]
        assert commands[-1] == [b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"limits"]
        made.connection.raise_if_lost()


@pytest.mark.parametrize("refusal", [b"-ERR unknown command 'HELLO'\r\n", b"-NOPROTO unsupported\r\n"])
async def test_a_server_without_resp3_can_be_read(refusal: bytes) -> None:
    """It is connected to by RESP2, and won't push."""
    async with changes(lambda words: refusal if words[0] == b"HELLO" else OK) as made:
        await made.connection.open()
        assert await made.connection.call("PING") == b"OK"
        with pytest.raises(RejectedError, match="RESP3"):
            await made.connection.track(KEY)
        assert made.server.connections == 2


@pytest.mark.parametrize("refusal", [b"-NOPERM no\r\n", b"-WRONGPASS no\r\n", b"-NOAUTH no\r\n", b"-LOADING yet\r\n"])
async def test_a_login_that_is_rejected_isnt_tried_again(refusal: bytes) -> None:
    """RESP2 would change nothing about it."""
    async with changes(lambda _: refusal) as made:
        with pytest.raises(RejectedError):
            await made.connection.open()
        assert made.server.connections == 1


async def test_another_address_can_be_named() -> None:
    """A cluster's node names the one that holds the key."""
    async with changes(lambda words: RESP3 if words[0] == b"HELLO" else OK) as made:
        with pytest.raises(UnreachableError):
            await made.connection.open(Address("127.0.0.1", free_port()))
        assert made.server.connections == 0


async def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both a server that hangs at the login and one that hangs later are given up."""
    monkeypatch.setattr(redis_push, "TIMEOUT_S", 0.05)
    async with changes(lambda _: None) as made:
        with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
            await made.connection.open()
        made.server.answer = lambda words: RESP3 if words[0] == b"HELLO" else None
        await made.connection.open()
        with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
            await made.connection.call("PING")


async def test_a_lost_connection_is_reported_once() -> None:
    """Its owner is called, and whatever it tries next says so."""
    async with changes(lambda words: RESP3 if words[0] == b"HELLO" else HANGS_UP) as made:
        with pytest.raises(UnreachableError, match="closed"):
            await made.connection.call("PING")
        await made.connection.open()
        with pytest.raises(UnreachableError):
            await made.connection.call("PING")
        await until(lambda: made.losses)
        with pytest.raises(UnreachableError):
            made.connection.raise_if_lost()
        await made.connection.close()
        await made.connection.close()
        assert made.losses == 1
