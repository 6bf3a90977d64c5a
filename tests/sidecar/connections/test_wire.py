"""A wire to a scripted server: commands and answers in order, pushes, errors, and how it ends."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.processes.ports import free_port
from support.redis.scripted import HANGS_UP, OK, RESP3, Answer, ScriptedRedis, scripted_redis
from support.tls import Authority
from support.waiting import until

from process.redis_access import RedisAccess, tls_options
from process.redis_url import Address
from sidecar.connections import wire as redis_wire
from sidecar.connections.errors import RedisServerError, RejectedError, UnreachableError
from sidecar.connections.wire import Wire, open_wire

PATIENT_S = 60.0


def echo(words: list[bytes]) -> bytes:
    """Answers each command with its last word."""
    return RESP3 if words[0] == b"HELLO" else b"$%d\r\n%s\r\n" % (len(words[-1]), words[-1])


@contextlib.asynccontextmanager
async def wired(answer: Answer = echo, **options: Any) -> AsyncIterator[tuple[Wire, ScriptedRedis]]:
    """A wire to a server with these answers."""
    async with scripted_redis(answer) as server:
        wire = await open_wire(Address("127.0.0.1", server.port), {}, **options)
        try:
            yield wire, server
        finally:
            await wire.close()


async def test_answers_come_in_the_order_of_the_commands() -> None:
    """Commands don't wait for each other, and each gets its own answer."""
    async with wired() as (wire, server):
        words = [f"word {number}" for number in range(50)]
        assert await asyncio.gather(*(wire.call("ECHO", word) for word in words)) == [word.encode() for word in words]
        assert server.connections == 1


async def test_asking_is_sent_right_before_its_command() -> None:
    """A cluster's ASKING applies to the next command only, and its answer belongs to no caller."""
    commands: list[bytes] = []

    def answer(words: list[bytes]) -> bytes:
        commands.append(words[0])
        return echo(words)

    async with wired(answer) as (wire, _):
        answers = await asyncio.gather(wire.call("GET", "a"), wire.call("GET", "b", asking=True), wire.call("GET", "c"))
        assert answers == [b"a", b"b", b"c"]
    assert commands == [b"GET", b"ASKING", b"GET", b"GET"]


async def test_an_error_as_the_answer_to_asking_does_no_harm() -> None:
    """The command after it is what fails or not."""
    async with wired(lambda words: b"-ERR no cluster\r\n" if words[0] == b"ASKING" else echo(words)) as (wire, _):
        assert await wire.call("GET", "a", asking=True) == b"a"


HERE = "127.0.0.1"

ERRORS = [
    (b"-WRONGTYPE not a hash", "WRONGTYPE", "WRONGTYPE not a hash", None),
    (b"-NOPERM no permissions", "NOPERM", "NOPERM no permissions", None),
    (b"-LOADING loading", "LOADING", "LOADING loading", None),
    (b"-NOAUTH authentication required", "NOAUTH", "NOAUTH authentication required", None),
    (b"-READONLY a replica", "READONLY", "READONLY a replica", None),
    (b"-TRYAGAIN a slot moves", "TRYAGAIN", "TRYAGAIN a slot moves", None),
    (b"-NOSCRIPT no such script", "NOSCRIPT", "NOSCRIPT no such script", None),
    (b"-NOPROTO sorry", "NOPROTO", "NOPROTO sorry", None),
    (b"-ERR unknown command 'HSCAN'", "ERR", "ERR unknown command 'HSCAN'", None),
    (b"-ERR max number of clients reached", "ERR", "ERR max number of clients reached", None),
    (b"-something odd", "ERR", "something odd", None),
    (b"-MOVED 3999 10.0.0.1:7001", "MOVED", "MOVED 3999 10.0.0.1:7001", Address("10.0.0.1", 7001)),
    (b"-MOVED 3999 :7001", "MOVED", "MOVED 3999 :7001", Address(HERE, 7001)),
    (b"-ASK 3999 10.0.0.1:7001", "ASK", "ASK 3999 10.0.0.1:7001", Address("10.0.0.1", 7001)),
]


@pytest.mark.parametrize(("line", "code", "text", "redirect"), ERRORS)
async def test_errors_have_a_code(line: bytes, code: str, text: str, redirect: Address | None) -> None:
    """An error answer is raised with its code, its whole text and where it redirects to; the connection stays good."""
    async with wired(lambda words: line + b"\r\n" if words[0] == b"FAIL" else echo(words)) as (wire, _):
        with pytest.raises(RejectedError) as raised:
            await wire.call("FAIL")
        assert (raised.value.code, str(raised.value), raised.value.redirect) == (code, text, redirect)
        assert await wire.call("ECHO", "hello") == b"hello"
        assert wire.loss is None


async def test_a_fatal_error_ends_the_connection_after_its_answer() -> None:
    """The command gets its error, and the owner learns why the connection is of no more use."""
    lost: list[bool] = []
    async with wired(
        lambda _: b"-READONLY a replica\r\n", fatal_code="READONLY", on_lost=lambda: lost.append(True)
    ) as (wire, _):
        with pytest.raises(RejectedError, match="READONLY"):
            await wire.call("SET", "a", "b")
        error = await wire.wait_until_lost()
        assert isinstance(error, RejectedError)
        assert lost == [True]
        with pytest.raises(UnreachableError):
            await wire.call("SET", "a", "b")


async def test_a_lost_connection_fails_all_that_wait() -> None:
    """Commands that weren't answered fail at once, and so do later ones; the owner is called once."""
    lost: list[bool] = []
    async with wired(lambda words: HANGS_UP if words[0] == b"QUIT" else None, on_lost=lambda: lost.append(True)) as (
        wire,
        server,
    ):
        calls = [asyncio.create_task(wire.call(word)) for word in ("GET", "GET", "QUIT")]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENT_S)
        assert [type(result) for result in results] == [UnreachableError] * 3
        assert isinstance(await wire.wait_until_lost(), UnreachableError)
        assert wire.loss is not None
        with pytest.raises(UnreachableError):
            await wire.call("GET")
        assert (lost, server.connections) == ([True], 1)


async def test_an_answer_that_comes_too_late_is_skipped() -> None:
    """Its command has failed; the next command gets its own answer, not that one."""
    late: list[bytes] = []

    def answer(words: list[bytes]) -> bytes | None:
        if words[-1] == b"slow":
            late.append(echo(words))
            return None
        return b"".join(late) + echo(words)

    async with wired(answer) as (wire, _):
        with pytest.raises(UnreachableError, match=r"no answer within 0\.01 s"):
            await wire.call("ECHO", "slow", timeout_s=0.01)
        assert await wire.call("ECHO", "fast", timeout_s=PATIENT_S) == b"fast"


async def test_messages_are_told_from_answers() -> None:
    """After SUBSCRIBE messages go to their handler, whatever was asked; before it, a value named "message" is a value."""
    message = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n"
    answers = {
        b"HMGET": b"*1\r\n$7\r\nmessage\r\n",
        b"SUBSCRIBE": b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n" + message,
        b"PING": message + b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    }
    messages: list[list[Any]] = []
    async with wired(lambda words: answers[words[0]], on_push=messages.append) as (wire, _):
        assert await wire.call("HMGET", "key", "field") == [b"message"]
        await wire.subscribe("news", timeout_s=PATIENT_S)
        assert await wire.call("PING") == [b"pong", b""]
        assert messages == [[b"message", b"news", b"hello"]] * 2


async def test_pushes_are_told_from_answers() -> None:
    """With RESP3 the server pushes between the answers."""
    push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"
    pushes: list[list[Any]] = []
    async with wired(
        lambda words: echo(words) if words[0] == b"HELLO" else push + echo(words) + push,
        protocol=3,
        on_push=pushes.append,
    ) as (wire, _):
        assert wire.speaks_resp3
        assert await wire.call("ECHO", "a") == b"a"
        assert await wire.call("ECHO", "b") == b"b"
        assert [list(pushed) for pushed in pushes[:3]] == [[b"invalidate", [b"key"]]] * 3


async def test_a_mistake_of_the_handler_ends_the_connection() -> None:
    """The owner learns of the error."""

    def fail(_: list[Any]) -> None:
        raise ZeroDivisionError

    answer = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"
    async with wired(lambda _: answer, on_push=fail) as (wire, _):
        await wire.subscribe("a", timeout_s=PATIENT_S)
        assert isinstance(await wire.wait_until_lost(), ZeroDivisionError)


@pytest.mark.parametrize("answer", [OK + OK, b"?nonsense\r\n"])
async def test_a_server_that_breaks_the_protocol_is_lost(answer: bytes) -> None:
    """An answer too many, or bytes that aren't one: what comes after it can't be trusted."""
    async with wired(lambda _: answer) as (wire, _):
        with contextlib.suppress(UnreachableError):
            await wire.call("GET")
        assert isinstance(await wire.wait_until_lost(), UnreachableError)


async def test_closing_ends_all_that_wait() -> None:
    """It isn't a loss, may be done twice, and nothing can be sent after it."""
    lost: list[bool] = []
    async with wired(lambda _: None, on_lost=lambda: lost.append(True)) as (wire, _):
        calling = asyncio.create_task(wire.call("GET"))
        await asyncio.sleep(0)
        await wire.close()
        await wire.close()
        with pytest.raises(UnreachableError):
            await calling
        with pytest.raises(UnreachableError):
            await wire.call("GET")
        assert (wire.loss, lost) == (None, [])


async def test_a_cancelled_write_ends_the_connection() -> None:
    """Half a command may have been sent, so nothing else can be; redis-py mustn't reconnect silently."""
    async with wired(lambda _: None) as (wire, server):
        huge = b"x" * (64 << 20)  # more than any socket takes at once
        writing = asyncio.create_task(wire.call("SET", "a", huge))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        with pytest.raises(UnreachableError):
            await wire.call("GET")
        assert isinstance(await wire.wait_until_lost(), UnreachableError)
        assert server.connections == 1


async def refused(address: Address, **options: Any) -> RedisServerError:
    """The error with which a server isn't connected to."""
    with pytest.raises(RedisServerError) as raised:
        await open_wire(address, **options)
    return raised.value


async def test_a_port_where_nobody_listens() -> None:
    """The error names the address."""
    port = free_port()
    error = await refused(Address("127.0.0.1", port), options={})
    assert isinstance(error, UnreachableError)
    assert str(port) in str(error)


async def test_a_socket_where_nobody_listens(tmp_path: Path) -> None:
    """The error names the path."""
    error = await refused(Address(str(tmp_path / "redis.sock"), 0), options={})
    assert isinstance(error, UnreachableError)
    assert "redis.sock" in str(error)


@pytest.mark.parametrize(
    ("options", "answer", "expected"),
    [
        ({"password": "wrong"}, b"-WRONGPASS invalid\r\n", "WRONGPASS"),
        ({"password": "wrong"}, b"-ERR invalid password\r\n", "ERR"),
        ({"db": 99}, b"-ERR DB index is out of range\r\n", "ERR"),
        ({"password": "secret"}, b"-NOPERM no\r\n", "NOPERM"),
    ],
)
async def test_a_login_that_is_rejected(options: dict[str, Any], answer: bytes, expected: str) -> None:
    """The server is there and says why it doesn't let the client in."""
    async with scripted_redis(lambda _: answer) as server:
        error = await refused(Address("127.0.0.1", server.port), options=options)
        assert isinstance(error, RejectedError)
        assert error.code == expected


async def test_a_server_that_hangs_at_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting is bounded, also where the server accepts and then says nothing."""
    monkeypatch.setattr(redis_wire, "CONNECT_TIMEOUT_S", 0.05)
    async with scripted_redis(lambda _: None) as server:
        error = await refused(Address("127.0.0.1", server.port), options={"password": "secret"})
        assert str(error) == "no answer within 0.1 s"


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    """The server's certificate is verified, and the client's is sent; a server of another CA isn't used."""
    authority = Authority(tmp_path)
    server_pair, client_pair = authority.sign("server"), authority.sign("client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server_pair.certificate, server_pair.key)
    access = RedisAccess(ca=authority.certificate, certificate=client_pair.certificate, key=client_pair.key)
    stranger = replace(access, ca=Authority(tmp_path, "stranger").certificate)
    script = ScriptedRedis(echo)
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=context) as server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        wire = await open_wire(address, {}, tls=tls_options(access))
        assert await wire.call("ECHO", "hello") == b"hello"
        await wire.close()
        assert isinstance(await refused(address, options={}, tls=tls_options(stranger)), UnreachableError)
        await until(lambda: not script.open)


async def test_tls_where_there_is_none() -> None:
    """A server that speaks no TLS is unreachable by it."""
    async with scripted_redis(lambda _: HANGS_UP) as server:
        error = await refused(Address("127.0.0.1", server.port), options={}, tls={})
        assert isinstance(error, UnreachableError)


@pytest.mark.parametrize(
    ("error", "summary", "fields"),
    [
        (UnreachableError("refused"), "Redis is unreachable", {"reason": "refused"}),
        (
            RejectedError("WRONGPASS", "WRONGPASS invalid"),
            "Redis rejected the user or the password",
            {"error": "WRONGPASS invalid", "hint": "check the user and the password of Redis"},
        ),
        (
            RejectedError("NOPERM", "NOPERM no"),
            "Redis denies this user a permission",
            {
                "error": "NOPERM no",
                "hint": "log in as a user with the permissions in docs/redis-acl.md; each program has a user of its own",
            },
        ),
        (RejectedError("BUSY", "BUSY a script runs"), "Redis rejected a command", {"error": "BUSY a script runs"}),
    ],
)
def test_what_a_log_line_says(error: RedisServerError, summary: str, fields: dict[str, str]) -> None:
    """A server that isn't there, a login or a command that it rejects: what happened, and what to do about it."""
    assert (error.summary, error.fields()) == (summary, fields)


def test_each_error_is_of_one_tree() -> None:
    """An owner that has one policy for all failures catches one class."""
    tree: list[Callable[..., Exception]] = [UnreachableError, RejectedError]
    assert all(issubclass(error, RedisServerError) for error in tree)  # type: ignore[arg-type]
