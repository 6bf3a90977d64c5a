"""Faults of Redis, as context managers that begin and end them. The server must be behind the proxy.

with FAULTS["killed"](server, proxy):
    ...
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.redis.proxy import RedisProxy
    from support.redis.valkey import Valkey

SLOW_S = 0.2

Fault = Callable[["Valkey", "RedisProxy"], AbstractContextManager[None]]


@contextlib.contextmanager
def killed(server: "Valkey", _: "RedisProxy") -> Iterator[None]:
    """Killed (SIGKILL); returns empty."""
    server.kill()
    try:
        yield
    finally:
        server.restart()


@contextlib.contextmanager
def stopped(server: "Valkey", _: "RedisProxy") -> Iterator[None]:
    """Hangs (SIGSTOP), with all connections open."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextlib.contextmanager
def slow(_: "Valkey", proxy: "RedisProxy") -> Iterator[None]:
    """Each answer arrives 200 ms late."""
    proxy.delay_s = SLOW_S
    try:
        yield
    finally:
        proxy.delay_s = 0.0


@contextlib.contextmanager
def read_only(server: "Valkey", _: "RedisProxy") -> Iterator[None]:
    """The replica of a master that doesn't answer: readable, but rejects every write."""
    with server.client() as client, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client.replicaof("127.0.0.1", unused.getsockname()[1])
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextlib.contextmanager
def full(server: "Valkey", _: "RedisProxy") -> Iterator[None]:
    """Out of memory with nothing to evict: rejects every write."""
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")


@contextlib.contextmanager
def flushed(server: "Valkey", _: "RedisProxy") -> Iterator[None]:
    """Everything is deleted by mistake."""
    with server.client() as client:
        client.flushall()
    yield


@contextlib.contextmanager
def restarting(server: "Valkey", _: "RedisProxy") -> Iterator[None]:
    """Restarts empty, several times in a row."""
    for _ in range(5):
        server.restart()
    yield


FAULTS: dict[str, Fault] = {
    "killed": killed,
    "stopped": stopped,
    "slow": slow,
    "read-only": read_only,
    "full": full,
    "flushed": flushed,
    "restarting": restarting,
}

LOSE_DATA = frozenset({"killed", "flushed", "restarting"})
"""After these the hash is empty."""
CONNECTION_IS_LOST = frozenset({"killed", "stopped", "restarting"})
"""During these the sidecar must notice that Redis is unreachable."""
