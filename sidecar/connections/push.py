"""One connection to Redis on which the server pushes changes of a key (RESP3 CLIENT TRACKING in BCAST mode).

redis-py's pooled and retrying clients are unfit for tracking: they reconnect silently, and the new connection is
tracked by nobody. So this is a single connection that never reconnects: when it is lost, its owner knows, and opens a
new one. Commands and pushes share it, since the server then orders pushes against replies.

The push handler of redis-py's parser is set through the connection's private ``_parser``, here and nowhere else; hence
the narrow version range of redis in pyproject.toml. It works with the hiredis parser, which is wanted: the pure-Python
one stalls the event loop more than ten times as long with large replies.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import AskError, BusyLoadingError, MovedError, NoPermissionError, RedisError, ResponseError

from process.redis_url import Address
from sidecar.connections.servers import AnyConnection, RedisServers

TIMEOUT_S = 1.5
"""How long the server may take to connect and to answer. Above the pauses of a busy server, far below a minute."""

_PUSH = object()


class ConnectionLostError(Exception):
    """The server can't be reached, hung up, or didn't answer in time. The connection is of no more use."""


class RefusedError(Exception):
    """The server answered a command with an error.

    Attributes:
        code: the error's first word, such as WRONGTYPE, MOVED, NOPERM or LOADING; ERR where it has none.
        moved_to: host and port of the node that has the key, if the code is MOVED.
    """

    def __init__(self, error: RedisError) -> None:
        text = str(error)
        first_word = text.split(" ", 1)[0]
        self.moved_to: tuple[str, int] | None = None
        if isinstance(error, MovedError):
            self.code = "MOVED"
            self.moved_to = (error.host, error.port)
        elif isinstance(error, AskError):
            self.code = "ASK"
        elif isinstance(error, NoPermissionError):
            self.code = "NOPERM"
        elif isinstance(error, BusyLoadingError):
            self.code = "LOADING"
        else:
            self.code = first_word if first_word.isupper() else "ERR"
        super().__init__(text if text.startswith(self.code) or self.code == "ERR" else f"{self.code} {text}")


class PushConnection:
    """A connection that is used by one task at a time.

    Args:
        servers: where Redis is.
        key: the connection is to the server that holds it.
        on_push: called with the keys that a push names; None for all keys (FLUSHALL, FLUSHDB).
        on_lost: called once when the connection breaks.
    """

    def __init__(
        self,
        servers: RedisServers,
        key: str,
        on_push: Callable[[list[bytes] | None], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._servers = servers
        self._key = key
        self._on_push = on_push
        self._on_lost = on_lost
        self._connection: AnyConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()

    async def open(self, address: tuple[str, int] | None = None) -> None:
        """Connects to the server that holds the key, or to another one that was named by such a server.

        Raises:
            ConnectionLostError: nobody there, or no answer in time.
            RefusedError: the server won't have us (wrong password, still loading).
        """
        try:
            try:
                self._connection = await self._connect(3, address)
            except ResponseError as error:
                if isinstance(error, NoPermissionError):
                    raise
                # Servers before Redis 6 don't know HELLO; they can be read, but won't push.
                self._connection = await self._connect(2, address)
        except (ResponseError, BusyLoadingError) as error:
            raise RefusedError(error) from error
        except TimeoutError:
            raise ConnectionLostError(f"no answer within {TIMEOUT_S:g} s") from None
        except (RedisError, OSError) as error:
            raise ConnectionLostError(str(error)) from error
        self._reader = asyncio.create_task(self._read(self._connection), name="redis-reader")

    async def track(self, prefix: str) -> None:
        """Asks for a push whenever a key with this prefix changes; RefusedError where the server can't or won't."""
        if self._connection is not None and self._connection.protocol != 3:
            raise RefusedError(ResponseError("the server doesn't speak RESP3"))
        await self.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)

    async def call(self, *command: str) -> Any:
        """Sends a command and gives the reply.

        Raises:
            ConnectionLostError: no reply in time; close the connection.
            RefusedError: the reply is an error; the connection is still good.
        """
        if self._connection is None or self._reader is None or self._reader.done():
            raise ConnectionLostError("the connection is closed")
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                # redis-py packs in Python, which took half of the time of reading a thousand streams.
                packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stubs know of one argument only
                await self._connection.send_packed_command([packed], check_health=False)
                return await reply
        except TimeoutError:
            raise ConnectionLostError(f"no answer within {TIMEOUT_S:g} s") from None
        except (RedisError, OSError) as error:
            raise ConnectionLostError(str(error)) from error

    async def close(self) -> None:
        """Hangs up. May be called at any time, also twice."""
        if self._reader is not None:
            self._reader.cancel()
        try:
            if self._reader is not None:
                await asyncio.wait((self._reader,))  # unlike awaiting it, this lets our own cancellation through
        finally:
            if self._connection is not None:
                connection, self._connection = self._connection, None
                await connection.disconnect(nowait=True)

    async def _connect(self, protocol: int, address: tuple[str, int] | None) -> AnyConnection:
        # All time-outs are ours: redis-py sends through asyncio.wait_for, which can swallow a cancellation in Python 3.11.
        options: dict[str, Any] = {"protocol": protocol, "socket_timeout": None}
        # Each of those who know the server has its own time: one that hangs mustn't take that of the next.
        server = Address(*address) if address else await self._servers.holder(self._key)
        async with asyncio.timeout(TIMEOUT_S):
            connection = await self._servers.connect(server, **options)
        parser: Any = connection._parser
        parser.set_invalidation_push_handler(self._pushed)
        parser.set_pubsub_push_handler(self._pushed)
        return connection

    async def _pushed(self, push: list[Any]) -> object:
        if push[0] in (b"invalidate", "invalidate"):
            self._on_push(push[1])
        return _PUSH

    async def _read(self, connection: AnyConnection) -> None:
        """Hands each reply to its command, in their order, until the connection breaks."""
        try:
            while True:
                reply: Any
                try:
                    reply = await connection.read_response(
                        timeout=math.inf, disconnect_on_error=False, push_request=True
                    )
                except (ResponseError, BusyLoadingError) as error:
                    reply = RefusedError(error)
                if reply is _PUSH:
                    continue
                waiting = self._waiting.popleft()
                if waiting.done():
                    continue  # its caller gave up
                if isinstance(reply, RefusedError):
                    waiting.set_exception(reply)
                else:
                    waiting.set_result(reply)
        except (RedisError, OSError, IndexError) as error:
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(ConnectionLostError(str(error) or type(error).__name__))
            self._waiting.clear()
            self._on_lost()
