"""Connections of the console to Redis: a small pool for commands, and one connection on which Redis pushes changes."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import redis.asyncio
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from process.redis_access import RedisAccess, connection_options, tls_options
from process.redis_url import Kind, RedisUrl

TIMEOUT_S: Final = 3.0
MAX_CONNECTIONS: Final = 4
"""However many pages are open: more commands at a time wait for each other."""

_PUSHED: Final = object()


class RedisServer:
    """Where Redis is, and how to log in. The options are kept, because they know the last password that a file contained."""

    def __init__(self, url: RedisUrl, access: RedisAccess) -> None:
        """Takes the URL of a server or of Sentinels."""
        if url.kind is Kind.CLUSTER:
            raise ValueError("the queue is on one server: give that server, or redis+sentinel://, instead of a cluster")
        self._url = url
        self._options: dict[str, Any] = {
            **connection_options(url, access),
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        self._tls = tls_options(access)
        self._sentinel: Sentinel | None = None
        if url.kind is Kind.SENTINEL:
            login = {"username": access.sentinel_username or None, "password": access.sentinel_password or None}
            ssl = {"ssl": True, **self._tls} if url.tls else {}
            timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
            addresses = [(address.host, address.port) for address in url.addresses]
            self._sentinel = Sentinel(addresses, sentinel_kwargs={**timeouts, **ssl, **login})  # type: ignore[no-untyped-call]
        elif url.tls:
            # TLS session tickets before the first reply make redis-py believe that the connection isn't clean.
            self._options["driver_info"] = DriverInfo()

    def client(self) -> "redis.asyncio.Redis":
        """Returns a client that hasn't connected yet, and doesn't retry."""
        options = {**self._options, "protocol": 2, "max_connections": MAX_CONNECTIONS, "timeout": TIMEOUT_S}
        if self._sentinel is not None:
            options.pop("timeout")
            ssl = {"ssl": True, **self._tls} if self._url.tls else {}
            client: redis.asyncio.Redis = self._sentinel.master_for(self._url.service, **options, **ssl)
            return client
        kind, place = self._kind_and_place()
        pool = redis.asyncio.BlockingConnectionPool(connection_class=kind, **place, **options)
        return redis.asyncio.Redis(connection_pool=pool)

    async def pushing(self) -> Connection | UnixDomainSocketConnection:
        """Connects to the server on a connection of its own, in the protocol that can push. Raises redis.RedisError."""
        kind, place = self._kind_and_place()
        if self._sentinel is not None:
            host, port = await self._sentinel.discover_master(self._url.service)
            place |= {"host": host, "port": port}
        connection: Connection | UnixDomainSocketConnection = kind(**place, **self._options, protocol=3)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    def _kind_and_place(self) -> tuple[type[Any], dict[str, Any]]:
        host, port = self._url.addresses[0]
        if port == 0:
            return UnixDomainSocketConnection, {"path": host}
        if self._url.tls:
            return SSLConnection, {"host": host, "port": port, **self._tls}
        return Connection, {"host": host, "port": port}


async def follow_pushes(server: RedisServer, prefix: str, on_change: Callable[[], None]) -> None:
    """Calls a function when the keys with a prefix may have changed, until the connection is lost.

    Raises:
        redis.RedisError: The connection is lost, or the server can't push.
    """
    connection = await server.pushing()
    try:

        async def pushed(_push: list[Any]) -> object:
            on_change()
            return _PUSHED

        parser: Any = connection._parser  # as in sidecar/connections: redis-py has no public way
        parser.set_invalidation_push_handler(pushed)
        await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)
        while await connection.read_response(timeout=TIMEOUT_S, push_request=True) is _PUSHED:
            pass
        on_change()  # what changed before tracking began
        awaiting = False
        while True:
            answer = await connection.read_response(timeout=TIMEOUT_S, push_request=True)
            if answer is None:
                if awaiting:
                    raise redis.TimeoutError("the server doesn't answer")
                await connection.send_command("PING", check_health=False)
                awaiting = True
            elif answer is not _PUSHED:
                awaiting = False
    finally:
        await asyncio.shield(connection.disconnect(nowait=True))
