"""Clients of the queue's Redis."""

import contextlib
import socket
import threading
from pathlib import Path

import pytest
import redis
from redis.sentinel import SentinelConnectionPool
from support.redis.valkey import valkey
from support.waiting import wait_until

from process.redis_access import RedisAccess
from process.redis_url import parse_redis_url
from worker.queue.redis_client import connect


def test_no_command_is_sent_twice() -> None:
    """If the connection breaks before the reply the command isn't repeated: a repeated read would lose entries."""
    sent: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while (words := connection.recv(10_000)) and b"XLEN" not in words:
                    connection.sendall(b"+OK\r\n" * words.count(b"*"))
            sent.append(words)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        client = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        with pytest.raises(redis.ConnectionError):
            client.xlen("key")
        client.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert sum(b"XLEN" in words for words in sent) == 1


def test_a_cluster_is_rejected() -> None:
    """All keys of a queue are on one server."""
    with pytest.raises(ValueError, match="cluster"):
        connect("redis+cluster://127.0.0.1:6379")


def test_a_unix_socket_is_connected_to(tmp_path: Path) -> None:
    """The URL's path is the socket's."""
    path = tmp_path / "redis.sock"
    with valkey("--unixsocket", str(path)), connect(f"unix://{path}?db=3") as client:
        assert client.set("key", "value")
        assert client.info("keyspace")["db3"]["keys"] == 1


def test_sentinels_are_asked_for_the_master() -> None:
    """With their own login; the master gets the URL's."""
    access = RedisAccess(sentinel_username="asker", sentinel_password="secret")
    with connect("redis+sentinel://user:password@a:1,b:2/service/3", access) as client:
        pool = client.connection_pool
        assert isinstance(pool, SentinelConnectionPool)
        assert (pool.service_name, pool.connection_kwargs["username"], pool.connection_kwargs["db"]) == (
            "service",
            "user",
            3,
        )
        sentinels = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
        assert [(each["host"], each["port"], each["username"]) for each in sentinels] == [
            ("a", 1, "asker"),
            ("b", 2, "asker"),
        ]


def test_tls_is_the_urls_choice() -> None:
    """The driver's info is sent only then: its reply is needed, and its permission."""
    for url, connection in (("rediss://host:1", redis.SSLConnection), ("redis://host:1", redis.Connection)):
        with connect(parse_redis_url(url)) as client:
            assert issubclass(client.connection_pool.connection_class, connection)
            assert (client.connection_pool.connection_kwargs["driver_info"] is None) == (connection is redis.Connection)


def test_a_replica_is_left_by_all_connections() -> None:
    """READONLY on one connection makes each of them connect again before its next use: the address may lead elsewhere."""
    answers = {b"SET": b"-READONLY You can't write against a read only replica.\r\n", b"GET": b"$-1\r\n"}
    opened: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while words := connection.recv(10_000):
                connection.sendall(answers[words.split(b"\r\n")[2]])

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                opened.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        with connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0") as client:
            pool = client.connection_pool
            pair = [pool.get_connection(), pool.get_connection()]
            for each in pair:
                pool.release(each)
            client.get("key")
            wait_until(lambda: len(opened) == 2)
            with pytest.raises(redis.ReadOnlyError):
                client.set("key", "value")
            client.get("key")  # by a new connection
            wait_until(lambda: len(opened) == 3)
            answers[b"SET"] = b"+OK\r\n"
            client.set("key", "value")
            pair = [pool.get_connection(), pool.get_connection()]
            for each in pair:
                pool.release(each)
            wait_until(lambda: len(opened) == 4)  # the other one, too
            repr(client)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
