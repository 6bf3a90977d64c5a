"""Clients of the Redis that holds the queue: one server, or the master that Sentinels name."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry
from redis.sentinel import Sentinel

from process.redis_access import RedisAccess, connection_options, tls_options
from process.redis_url import Kind, RedisUrl, parse_redis_url

SOCKET_TIMEOUT_S = 5.0
"""A Redis that is silent for so long is away. Longer than any wait for entries, else each wait would look like that."""

CONNECT_TIMEOUT_S = 2.0


def connect(url: RedisUrl | str, access: RedisAccess | None = None) -> redis.Redis:
    """Makes a client that never repeats a command by itself, and connects to nothing yet.

    A repeated read would leave entries behind unseen; whoever may repeat a command does so itself.

    Args:
        url: a server or Sentinels; as text it may be wrong, which raises ValueError.
        access: what the connection needs besides.
    """
    if isinstance(url, str):
        url = parse_redis_url(url)
    access = access or RedisAccess()
    options: dict[str, Any] = {
        **connection_options(url, access),
        **_transport(url, access),
        "protocol": 2,  # the scripts' replies are the same in both, XREAD's isn't
    }
    if url.kind is Kind.SENTINEL:
        login = {"username": access.sentinel_username or None, "password": access.sentinel_password or None}
        sentinels = [(address.host, address.port) for address in url.addresses]
        asked = Sentinel(sentinels, sentinel_kwargs={**_transport(url, access), **login})  # type: ignore[no-untyped-call]
        client: redis.Redis = asked.master_for(url.service, **options)  # type: ignore[no-untyped-call]
        return client
    if url.kind is Kind.CLUSTER:
        raise ValueError("the queue can't be in a cluster")
    host, port = url.addresses[0]
    if port == 0:
        return redis.Redis(unix_socket_path=host, **options)
    return redis.Redis(host=host, port=port, **options)


def _transport(url: RedisUrl, access: RedisAccess) -> dict[str, Any]:
    """What connections to a server and to a Sentinel have in common."""
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),  # redis-py's own would also wait seconds for each Sentinel that is down
        "driver_info": None,  # CLIENT SETINFO would ask for one more permission
    }
    if url.tls:
        # Tickets of TLS that come before the first reply make redis-py think that the connection isn't clean; so there
        # has to be a reply: that to CLIENT SETINFO, be it a refusal.
        options |= {"ssl": True, "driver_info": DriverInfo(), **tls_options(access)}
    return options
