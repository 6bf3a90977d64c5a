"""One connection to one server of Redis: commands out, their answers in order, and what the server pushes.

redis-py's pooled and retrying clients are unfit for this. They reconnect silently, and the new connection has neither the
tracking nor the subscription of the old one. So a wire never reconnects: when it is lost, its owner learns of it and
opens another one. Commands and pushes share a wire, so that the server orders the pushes against the answers.

This is the only file that talks to redis-py, and the one in which its errors become those of this package. The push
handlers of redis-py's parser are set through the connection's private ``_parser``; hence the narrow version range of redis
in pyproject.toml. They work with the hiredis parser, which is needed anyway: the parser in pure Python stalls the event
loop more than ten times as long on large answers.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import hiredis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, AuthenticationError, BusyLoadingError, RedisError, ResponseError

from process.redis_url import Address
from sidecar.connections.errors import RejectedError, UnreachableError

CONNECT_TIMEOUT_S: Final = 1.0
"""How long a server may take to accept a connection; to log in, as long again."""

RedisConnection = Connection | UnixDomainSocketConnection

_ASKING: Final = hiredis.pack_command(("ASKING",))
_PUSH: Final = object()


class Wire:
    """A connection that was opened; it reads in a task of its own until it is lost or closed.

    Args:
        connection: redis-py's connection, which nothing else uses.
        address: The server that it leads to.
        on_push: Is called with each push, as Redis sends it: a list whose first item is its kind.
        on_lost: Is called once, when the connection is lost; not when it is closed.
        fatal_code: The code of an error that ends the connection after it was given to its command; empty for none.
    """

    def __init__(
        self,
        connection: RedisConnection,
        address: Address,
        *,
        on_push: Callable[[list[Any]], object] = lambda _push: None,
        on_lost: Callable[[], object] = lambda: None,
        fatal_code: str = "",
    ) -> None:
        self.address = address
        self._connection = connection
        self._on_push = on_push
        self._on_lost = on_lost
        self._fatal_code = fatal_code
        self._subscribed = False
        self._loss: Exception | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        if self.speaks_resp3:
            parser: Any = connection._parser
            parser.set_invalidation_push_handler(self._pushed)
            parser.set_pubsub_push_handler(self._pushed)
        self._reader = self._loop.create_task(self._read(), name=f"redis-reader {address}")

    @property
    def speaks_resp3(self) -> bool:
        """Whether the server can push on this connection without a subscription."""
        return self._connection.protocol == 3

    @property
    def loss(self) -> Exception | None:
        """Why the connection was lost; None if it wasn't."""
        return self._loss

    async def call(self, *command: bytes | str | float, asking: bool = False, timeout_s: float = math.inf) -> Any:
        """Sends a command and returns its answer.

        Args:
            command: The command's words.
            asking: Whether to send ASKING before it, as a cluster demands while a slot moves.
            timeout_s: How long the answer may take, seconds.

        Raises:
            UnreachableError: The connection is lost, or the answer didn't come in time.
            RejectedError: The answer is an error.
        """
        # redis-py packs in Python, which took half of the time of reading a thousand streams.
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stubs know one argument type only
        # redis-py would connect again if it isn't connected.
        if self._loss is not None or not self._connection.is_connected:
            raise UnreachableError(f"the connection to {self.address} was lost")
        if asking:
            self._waiting.append(self._loop.create_future())
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(answer)
        # This writes before it waits for anything, so commands leave in the order of the futures.
        sending = self._connection.send_packed_command([_ASKING, packed] if asking else [packed], check_health=False)
        try:
            if timeout_s == math.inf:
                await sending
                return await answer
            async with asyncio.timeout(timeout_s):
                await sending
                return await answer
        except TimeoutError:
            raise UnreachableError(f"no answer within {timeout_s:g} s") from None
        except (RedisError, OSError) as error:
            raise _unreachable(error) from error

    async def subscribe(self, channel: bytes | str, *, timeout_s: float) -> None:
        """Subscribes to a channel: its messages are given to on_push. After this, PING is the only command allowed.

        Raises the same errors as call().
        """
        self._subscribed = True
        await self.call("SUBSCRIBE", channel, timeout_s=timeout_s)

    async def wait_until_lost(self) -> Exception | None:
        """Waits until the connection is lost or closed; returns why it was lost."""
        await asyncio.wait((self._reader,))
        return self._loss

    async def close(self) -> None:
        """Closes the connection. May be called at any time, also twice."""
        self._reader.cancel()
        try:
            await asyncio.wait((self._reader,))  # unlike awaiting it, this lets our own cancellation through
        finally:
            self._give_up(UnreachableError("the connection was closed"))
            with contextlib.suppress(RedisError, OSError):
                await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        """Gives each answer to its command, until the connection is lost."""
        read = self._connection.read_response
        try:
            while True:
                try:
                    answer = await read(timeout=math.inf, disconnect_on_error=False, push_request=True)
                except RedisError as error:
                    if not _is_answer(error):
                        raise
                    answer = _rejected(error, self.address)
                if answer is _PUSH:
                    continue
                if self._subscribed and isinstance(answer, list) and answer[0] == b"message":
                    self._on_push(answer)
                    continue
                if not self._waiting:
                    raise UnreachableError(f"{self.address} sent an answer to no command")
                waiting = self._waiting.popleft()
                if isinstance(answer, RejectedError):
                    _fail(waiting, answer)
                    if answer.code == self._fatal_code:
                        raise answer
                elif not waiting.done():  # else its caller gave up
                    waiting.set_result(answer)
        except (RedisError, OSError) as error:
            self._lose(_unreachable(error))
        except Exception as error:
            self._lose(error)

    async def _pushed(self, push: list[Any]) -> object:
        self._on_push(push)
        return _PUSH

    def _lose(self, error: Exception) -> None:
        self._loss = error
        self._give_up(error)
        self._on_lost()

    def _give_up(self, error: Exception) -> None:
        while self._waiting:
            _fail(self._waiting.popleft(), UnreachableError(f"the connection to {self.address} was lost: {error}"))


async def open_wire(
    address: Address,
    options: Mapping[str, Any],
    *,
    tls: Mapping[str, Any] | None = None,
    protocol: int = 2,
    on_push: Callable[[list[Any]], object] = lambda _push: None,
    on_lost: Callable[[], object] = lambda: None,
    fatal_code: str = "",
) -> Wire:
    """Connects to a server once, and logs in.

    Args:
        address: The server.
        options: redis-py's options of the connection, such as the user and the database.
        tls: redis-py's options of TLS; None for a connection without it.
        protocol: The version of RESP: 2, or 3 for pushes.
        on_push: As for Wire.
        on_lost: As for Wire.
        fatal_code: As for Wire.

    Raises:
        UnreachableError: There is no server, or it doesn't answer in time.
        RejectedError: The server rejects the login, the protocol or the database.
    """
    # One attempt, bounded: each owner has a policy of its own for failures. All timeouts are set here: redis-py sends
    # through asyncio.wait_for, which can swallow a cancellation in Python 3.11.
    bounded = {
        **options,
        "driver_info": None,  # CLIENT SETINFO would need one more permission
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": protocol,
    }
    connection: RedisConnection
    if address.port == 0:
        connection = UnixDomainSocketConnection(path=address.host, **bounded)
    elif tls is not None:
        connection = SSLConnection(host=address.host, port=address.port, **bounded, **tls)
    else:
        connection = Connection(host=address.host, port=address.port, **bounded)
    try:
        # redis-py's own timeout ends with the TCP handshake; a server may also stop answering after that.
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
            await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException as error:
        await connection.disconnect(nowait=True)
        if isinstance(error, TimeoutError):
            raise UnreachableError(f"no answer within {2 * CONNECT_TIMEOUT_S:g} s") from None
        if isinstance(error, RedisError) and _is_answer(error):
            raise _rejected(error, address) from error
        if isinstance(error, RedisError | OSError):
            raise _unreachable(error) from error
        raise
    return Wire(connection, address, on_push=on_push, on_lost=on_lost, fatal_code=fatal_code)


def _is_answer(error: RedisError) -> bool:
    """Whether the server sent this error, which for redis-py may be an error of the connection."""
    return isinstance(error, ResponseError | AuthenticationError | BusyLoadingError) or error.status_code is not None


def _rejected(error: RedisError, address: Address) -> RejectedError:
    """Returns an error answer with the code, which redis-py cuts off where it knows it."""
    text = str(error)
    if error.status_code:
        code, text = error.status_code, f"{error.status_code} {text}"
    else:
        first_word = text.partition(" ")[0]
        code = first_word if first_word.isupper() else "ERR"
    if code == "ERR" and "unauthenticated" in text:  # how Redis rejects a long command before the login
        code = "NOAUTH"
    redirect = None
    if isinstance(error, AskError):
        # A server that doesn't know its own host means the one that answered.
        redirect = Address(error.host or address.host, error.port)
    return RejectedError(code, text, redirect)


def _unreachable(error: Exception) -> UnreachableError:
    return UnreachableError(str(error) or type(error).__name__)


def _fail(waiting: "asyncio.Future[Any]", error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()  # no warning if nothing awaits it, as with the answer to ASKING
