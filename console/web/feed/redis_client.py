"""Connections of the console to Redis: a small pool for commands, and those on which Redis pushes changes.

In a cluster there is one of the latter for each node that holds limits, patterns or boosts.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import RedisClusterException

from console.web.feed.tasks import end_tasks
from process.redis_access import RedisAccess, connection_options, tls_options
from process.redis_url import Kind, RedisUrl

TIMEOUT_S: Final = 3.0
MAX_CONNECTIONS: Final = 4
"""However many pages are open: more commands at a time wait for each other."""

_PUSHED: Final = object()

_Place = tuple[str, int]


class _Cluster(RedisCluster):
    """A client of a cluster that sends few commands at a time. It raises redis.RedisError, as others do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._few = asyncio.Semaphore(MAX_CONNECTIONS)

    async def initialize(self, *args: Any, **options: Any) -> "RedisCluster":
        try:
            return await super().initialize(*args, **options)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        async with self._few:
            try:
                return await super().execute_command(*args, **options)
            except RedisClusterException as error:
                raise redis.ConnectionError(str(error)) from error


class RedisServer:
    """Where Redis is, and how to log in. The options are kept, because they know the last password that a file contained."""

    def __init__(self, url: RedisUrl, access: RedisAccess) -> None:
        """Takes the URL of a server, of Sentinels or of a cluster."""
        self._url = url
        self._options: dict[str, Any] = {
            **connection_options(url, access),
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        self._tls = tls_options(access)
        self._sentinel: Sentinel | None = None
        self._cluster: _Cluster | None = None
        if url.kind is Kind.SENTINEL:
            login = {"username": access.sentinel_username or None, "password": access.sentinel_password or None}
            ssl = {"ssl": True, **self._tls} if url.tls else {}
            timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
            addresses = [(address.host, address.port) for address in url.addresses]
            self._sentinel = Sentinel(addresses, sentinel_kwargs={**timeouts, **ssl, **login})  # type: ignore[no-untyped-call]
        elif url.tls:
            # TLS session tickets before the first reply make redis-py believe that the connection isn't clean.
            self._options["driver_info"] = DriverInfo()

    def client(self) -> "redis.asyncio.Redis | RedisCluster":
        """Returns a client that hasn't connected yet. It doesn't retry, except where a cluster's keys have moved."""
        if self._url.kind is Kind.CLUSTER:
            self._cluster = self._cluster_client()
            return self._cluster
        options = {**self._options, "protocol": 2, "max_connections": MAX_CONNECTIONS, "timeout": TIMEOUT_S}
        if self._sentinel is not None:
            options.pop("timeout")
            ssl = {"ssl": True, **self._tls} if self._url.tls else {}
            client: redis.asyncio.Redis = self._sentinel.master_for(self._url.service, **options, **ssl)
            return client
        kind, place = self._kind_and_place()
        pool = redis.asyncio.BlockingConnectionPool(connection_class=kind, **place, **options)
        return redis.asyncio.Redis(connection_pool=pool)

    async def places(self, keys: Collection[str]) -> frozenset[_Place]:
        """Returns where keys are: a host and port for each node of a cluster that has one. Raises redis.RedisError."""
        if self._url.kind is Kind.CLUSTER:
            cluster = self._cluster or self._cluster_client()
            self._cluster = cluster
            await cluster.initialize()
            try:
                nodes = [cluster.get_node_from_key(key) for key in keys]
            except RedisClusterException as error:
                raise redis.ConnectionError(str(error)) from error
            return frozenset((node.host, int(node.port)) for node in nodes if node is not None)
        if self._sentinel is not None:
            return frozenset([await self._sentinel.discover_master(self._url.service)])
        return frozenset([(self._url.addresses[0].host, self._url.addresses[0].port)])

    async def pushing(self, place: _Place) -> Connection | UnixDomainSocketConnection:
        """Connects to a place on a connection of its own, in the protocol that can push. Raises redis.RedisError."""
        kind, where = self._kind_and_place()
        if "host" in where:
            where |= {"host": place[0], "port": place[1]}
        connection: Connection | UnixDomainSocketConnection = kind(**where, **self._options, protocol=3)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    def _cluster_client(self) -> _Cluster:
        options = {name: value for name, value in self._options.items() if name not in ("db", "retry")}
        ssl = {"ssl": True, **self._tls} if self._url.tls else {}
        nodes = [ClusterNode(address.host, address.port) for address in self._url.addresses]
        return _Cluster(startup_nodes=nodes, protocol=2, require_full_coverage=False, **options, **ssl)

    def _kind_and_place(self) -> tuple[type[Any], dict[str, Any]]:
        host, port = self._url.addresses[0]
        if port == 0:
            return UnixDomainSocketConnection, {"path": host}
        if self._url.tls:
            return SSLConnection, {"host": host, "port": port, **self._tls}
        return Connection, {"host": host, "port": port}


async def follow_pushes(server: RedisServer, keys: Sequence[str], on_change: Callable[[], None]) -> None:
    """Calls a function when keys may have changed, until a connection is lost or one of the keys has moved.

    Args:
        server: Where they are.
        keys: The first one begins all of them.
        on_change: The function.

    Raises:
        redis.RedisError: A connection is lost, the keys have moved, or the server can't push.
    """
    places = await server.places(keys)

    async def check() -> None:
        if await server.places(keys) != places:
            raise redis.ConnectionError("the limits have moved to another node")

    tasks = [asyncio.create_task(_follow(server, place, keys, on_change, check)) for place in places]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_tasks(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)  # nobody else asks for their errors


async def _follow(
    server: RedisServer,
    place: _Place,
    keys: Sequence[str],
    on_change: Callable[[], None],
    check: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    connection = await server.pushing(place)
    try:

        async def pushed(_push: list[Any]) -> object:
            on_change()
            return _PUSHED

        parser: Any = connection._parser  # as in sidecar/connections: redis-py has no public way
        parser.set_invalidation_push_handler(pushed)
        await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", keys[0])
        while await connection.read_response(timeout=TIMEOUT_S, push_request=True) is _PUSHED:
            pass
        on_change()  # what changed before tracking began
        awaiting = False
        while True:
            answer = await connection.read_response(timeout=TIMEOUT_S, push_request=True)
            if answer is None:
                if awaiting:
                    raise redis.TimeoutError("the server doesn't answer")
                await check()
                await connection.send_command("PING", check_health=False)
                awaiting = True
            elif answer is not _PUSHED:
                awaiting = False
    finally:
        await asyncio.shield(connection.disconnect(nowait=True))
