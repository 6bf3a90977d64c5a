"""A client of the Redis that holds the limits: of one server, of the master that Sentinels name, or of a cluster."""

from __future__ import annotations

from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.driver_info import DriverInfo
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from process.redis_access import RedisAccess, connection_options, tls_options
from process.redis_url import Kind, RedisUrl


class _Cluster(RedisCluster):
    """A client of a cluster that raises redis.RedisError, as others do, where no node serves a key."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


Client: TypeAlias = "redis.Redis | RedisCluster"

ANSWER_S = 5.0
CONNECT_S = 2.0


def connect(url: RedisUrl, access: RedisAccess | None = None) -> Client:
    """Returns a client, whose texts are str; bytes that aren't UTF-8 are surrogates, and go back as the same bytes.

    Args:
        url: where Redis is.
        access: what connections need besides the URL.

    Raises:
        redis.RedisError: the nodes of a cluster are unreachable; else the first command is the first to connect.
    """
    access = access or RedisAccess()
    options = _options(url, access)
    login = {name: value for name, value in connection_options(url, access).items() if name not in options}
    ssl: dict[str, Any] = {"ssl": True} if url.tls else {}
    if url.kind is Kind.CLUSTER:
        nodes = [ClusterNode(address.host, address.port) for address in url.addresses]  # type: ignore[no-untyped-call]
        del login["db"], options["retry"]  # the client follows moved slots by trying again
        return _Cluster(startup_nodes=nodes, **login, **options, **ssl)
    if url.kind is Kind.SENTINEL:
        sentinels = [(address.host, address.port) for address in url.addresses]
        for_sentinels = {
            **options,
            **ssl,
            "username": access.sentinel_username or None,
            "password": access.sentinel_password or None,
        }
        sentinel = Sentinel(sentinels, sentinel_kwargs=for_sentinels)  # type: ignore[no-untyped-call]
        master: redis.Redis = sentinel.master_for(url.service, **login, **options, **ssl)  # type: ignore[no-untyped-call]
        return master
    host, port = url.addresses[0]
    if port == 0:
        return redis.Redis(unix_socket_path=host, **login, **options)
    return redis.Redis(host=host, port=port, **login, **options, **ssl)


def _options(url: RedisUrl, access: RedisAccess) -> dict[str, Any]:
    """Returns the options that connections to servers, Sentinels and nodes share."""
    options: dict[str, Any] = {
        "socket_timeout": ANSWER_S,
        "socket_connect_timeout": CONNECT_S,
        # A change that was sent twice would be refused as a conflict with itself.
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        "encoding_errors": "surrogateescape",
        "driver_info": None,  # CLIENT SETINFO would need one more permission
        "protocol": 2,
    }
    if url.tls:
        # TLS session tickets that arrive before the first reply make redis-py believe that the connection isn't clean.
        # So there has to be a reply, even an error: that to CLIENT SETINFO.
        options |= {"driver_info": DriverInfo(), **tls_options(access)}
    return options
