"""Clients of the Redis that holds the queue: of one server, of the master that Sentinels name, or of a cluster's node."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.driver_info import DriverInfo
from redis.retry import Retry
from redis.sentinel import Sentinel

from process.redis_access import RedisAccess, connection_options, tls_options
from process.redis_url import Address, Kind, RedisUrl, parse_redis_url
from worker.queue.reply_parser import ReplyParser

SOCKET_TIMEOUT_S = 5.0
"""A Redis that is silent for longer is unreachable. Longer than any wait for entries, else each wait would time out."""

CONNECT_TIMEOUT_S = 2.0


def connect(url: RedisUrl | str, access: RedisAccess | None = None) -> redis.Redis:
    """Returns a client that sends each command at most once, and that hasn't connected yet.

    A read that was sent twice would leave entries behind that no worker has seen; the callers repeat what may be
    repeated.

    Args:
        url: of a server or of Sentinels. For a cluster, see :mod:`worker.queue.connections`.
        access: what connections need besides the URL.

    Raises:
        ValueError: the URL, given as text, isn't valid; or it names a cluster.
    """
    if isinstance(url, str):
        url = parse_redis_url(url)
    access = access or RedisAccess()
    if url.kind is Kind.SENTINEL:
        options = _options(url, access)
        login = {"username": access.sentinel_username or None, "password": access.sentinel_password or None}
        ssl = {"ssl": True} if url.tls else {}
        sentinels = [(address.host, address.port) for address in url.addresses]
        sentinel = Sentinel(sentinels, sentinel_kwargs={**_transport(url, access), **ssl, **login})  # type: ignore[no-untyped-call]
        client: redis.Redis = sentinel.master_for(url.service, **options, **ssl)  # type: ignore[no-untyped-call]
        return client
    if url.kind is Kind.CLUSTER:
        raise ValueError("a cluster has no single server")
    return server_client(url.addresses[0], url, access)


def server_client(address: Address, url: RedisUrl, access: RedisAccess) -> redis.Redis:
    """Returns such a client of one server; the URL says how to log in, and whether to use TLS."""
    host, port = address
    options = {**_options(url, access), "generation": _Generation()}
    if port == 0:
        for name in ("socket_connect_timeout", "socket_keepalive"):  # these are of TCP
            del options[name]
        pool = redis.ConnectionPool(UnixConnection, path=host, **options)
    else:
        pool = redis.ConnectionPool(TlsConnection if url.tls else TcpConnection, host=host, port=port, **options)
    return redis.Redis.from_pool(pool)


def _options(url: RedisUrl, access: RedisAccess) -> dict[str, Any]:
    """Returns the options of connections to servers that hold the queue."""
    return {
        **connection_options(url, access),
        **_transport(url, access),
        "parser_class": ReplyParser,
        "protocol": 2,  # the scripts' replies are the same in both, but that of XREAD isn't
    }


def _transport(url: RedisUrl, access: RedisAccess) -> dict[str, Any]:
    """Returns the options that connections to a server and to a Sentinel share."""
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),  # redis-py's default would also wait for seconds for each Sentinel that is down
        "driver_info": None,  # CLIENT SETINFO would need one more permission
    }
    if url.tls:
        # TLS session tickets that arrive before the first reply make redis-py believe that the connection isn't clean.
        # So there has to be a reply, even an error: that to CLIENT SETINFO.
        options |= {"driver_info": DriverInfo(), **tls_options(access)}
    return options


class _Generation:
    """Which connections of a client are from before a server said that it is a replica: those of another number."""

    def __init__(self) -> None:
        self.number = 0


class _FollowsMaster(AbstractConnection):
    """A connection that isn't used any more once a server has said that it is a replica.

    After a failover the old master goes on answering on the connections that it has. An address that follows the master
    leads to the new one only once a new connection is made. And as long as one old connection is used, reads by it may
    miss what was written to the new master; so the answer READONLY to one connection makes them all connect again.
    """

    def __init__(self, *, generation: _Generation, **options: Any) -> None:
        self._generation = generation
        self._number = generation.number
        super().__init__(**options)

    def connect(self) -> None:
        """Connects unless it is connected. The pool calls this before each use."""
        if self._number != self._generation.number:
            self.disconnect()  # type: ignore[no-untyped-call]
            self._number = self._generation.number
        super().connect()  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Returns the next answer; raises redis.ReadOnlyError, among others, for an answer that is an error."""
        try:
            return super().read_response(*args, **options)
        except redis.ReadOnlyError:
            if self._number == self._generation.number:
                self._generation.number += 1
            raise


class TcpConnection(_FollowsMaster, Connection):
    """By TCP."""


class TlsConnection(_FollowsMaster, SSLConnection):
    """By TCP, encrypted."""


class UnixConnection(_FollowsMaster, UnixDomainSocketConnection):
    """By a unix socket."""
