"""One connection to Redis on which the server pushes changes of a key (RESP3 CLIENT TRACKING in BCAST mode).

It never reconnects: when it is lost, its owner learns of it, and opens a new one that is tracked from its start.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from process.redis_url import Address
from sidecar.connections.errors import RejectedError, UnreachableError
from sidecar.connections.servers import RedisServers
from sidecar.connections.wire import Wire

TIMEOUT_S: Final = 1.5
"""How long the server may take to connect and to answer. Above the pauses of a busy server, far below a minute."""

_NOT_ABOUT_RESP3: Final = frozenset({"NOPERM", "WRONGPASS", "NOAUTH", "LOADING"})


class PushConnection:
    """A connection that is used by one task at a time.

    Args:
        servers: Where Redis is.
        key: The connection is to the server that holds it.
        on_push: Is called with the keys that a push names; None for all keys (FLUSHALL, FLUSHDB).
        on_lost: Is called once when the connection is lost.
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
        self._wire: Wire | None = None

    async def open(self, address: Address | None = None) -> None:
        """Connects to the server that holds the key, or to another one that such a server named.

        Raises:
            UnreachableError: There is no server, or it doesn't answer in time.
            RejectedError: The server rejects the login, or is still loading its data.
        """
        try:
            self._wire = await self._connect(3, address)
        except RejectedError as error:
            if error.code in _NOT_ABOUT_RESP3:
                raise
            # Servers before Redis 6 and some proxies don't know HELLO; they can be read, but don't push.
            self._wire = await self._connect(2, address)

    async def track(self, prefix: str) -> None:
        """Asks for a push whenever a key with this prefix changes.

        Raises:
            UnreachableError: As for call().
            RejectedError: The server can't push, or the user may not ask for it.
        """
        if self._wire is not None and not self._wire.speaks_resp3:
            raise RejectedError("ERR", "the server doesn't speak RESP3")
        await self.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)

    async def call(self, *command: str) -> Any:
        """Sends a command and returns its answer.

        Raises:
            UnreachableError: The connection is lost, or the answer didn't come in time; close it.
            RejectedError: The answer is an error; the connection is still good.
        """
        if self._wire is None:
            raise UnreachableError("the connection is closed")
        return await self._wire.call(*command, timeout_s=TIMEOUT_S)

    def raise_if_lost(self) -> None:
        """Raises UnreachableError if the connection was lost."""
        if self._wire is not None and self._wire.loss is not None:
            raise UnreachableError(str(self._wire.loss))

    async def close(self) -> None:
        """Closes the connection. May be called at any time, also twice."""
        if self._wire is not None:
            await self._wire.close()

    async def _connect(self, protocol: int, address: Address | None) -> Wire:
        # Each Sentinel or node that is asked has a timeout of its own: one that hangs mustn't use up that of the server.
        server = address or await self._servers.holder(self._key)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._servers.connect(
                    server, protocol=protocol, on_push=self._pushed, on_lost=self._on_lost
                )
        except TimeoutError:
            raise UnreachableError(f"no answer within {TIMEOUT_S:g} s") from None

    def _pushed(self, push: list[Any]) -> None:
        if push[0] in (b"invalidate", "invalidate"):
            self._on_push(push[1])
