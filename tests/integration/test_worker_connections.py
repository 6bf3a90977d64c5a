"""Each way of the worker to its Redis and to its sidecar: passwords, TLS, Sentinels."""

import contextlib
import socket
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis_topologies import plain_client, replicated, tls_server, tls_skip
from servers import Valkey, free_port, sidecar_process
from tls_files import Authority
from worker_helpers import QueueServer, accounting, balance, eventually, pending, publish_many, worker

from process.redis_access import RedisAccess
from sidecar.schedule import Reason
from worker.rate_limit import RateLimiter, tls_credentials
from worker.redis_client import connect


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    server = QueueServer(tmp_path)
    yield server
    server.close()


def test_queue_behind_sentinels(tmp_path: Path) -> None:
    """A worker follows the failover of its queue; on the promoted server everything received has ended exactly once."""
    with replicated() as servers:
        queue = types.SimpleNamespace(url=servers.url, folder=tmp_path)
        with plain_client(servers.master.port) as client:
            publish_many(client, 300)
            client.wait(1, 10_000)
        with worker(queue, seconds=0.005) as process, plain_client(servers.replica.port) as promoted:
            eventually(lambda: accounting(promoted).get("counted", 0) >= 50)
            servers.master.kill()
            eventually(lambda: promoted.info("replication")["role"] == "master")
            publish_many(promoted, 100, name="later")
            eventually(lambda: accounting(promoted).get("received") == 400 and pending(promoted) == 0)
            assert balance(promoted) == 0
            assert accounting(promoted) == {"received": 400, "counted": 400}
            assert process.terminate() == 0
        assert "Redis is back" in process.log


def test_a_sentinel_that_is_down_is_asked_once() -> None:
    """The next Sentinel is asked at once, so one that is down delays nothing."""
    with replicated() as servers, socket.create_server(("127.0.0.1", 0)) as broken:
        attempts = []

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = broken.accept()
                    attempts.append(connection.getpeername())
                    connection.close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        sentinels = servers.url.removeprefix("redis+sentinel://")
        with connect(f"redis+sentinel://127.0.0.1:{broken.getsockname()[1]},{sentinels}") as client:
            assert client.ping()
        broken.shutdown(socket.SHUT_RDWR)
        refusing.join()
        assert len(attempts) == 1


def test_password_of_the_queue_in_a_file(tmp_path: Path) -> None:
    """The password is read from the file, and a wrong one is said so."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    server = Valkey("--requirepass", "secret")
    try:
        with plain_client(server.port, password="secret") as client:
            publish_many(client, 20)
            queue = types.SimpleNamespace(url=server.url, folder=tmp_path)
            with worker(queue, "--drain", "--redis-password-file", str(password)) as process:
                assert process.wait() == 0
            assert accounting(client) == {"received": 20, "counted": 20}
    finally:
        server.close()


@pytest.mark.skipif(tls_skip(), reason="no Redis server with TLS on this machine")
def test_redis_by_tls(authority: Authority) -> None:
    """The server's certificate is checked against the CA, and the client's own is shown."""
    server, own = authority.sign("localhost"), authority.sign("worker")
    access = RedisAccess(ca=authority.certificate, certificate=own.certificate, key=own.key)
    with tls_server(authority.certificate, server.certificate, server.key) as port:
        url = f"rediss://localhost:{port}/0"
        with connect(url, access) as client:
            assert client.ping()
        with connect(url) as stranger, pytest.raises(redis.ConnectionError):
            stranger.ping()


def test_sidecar_by_tls(valkey: QueueServer, authority: Authority) -> None:
    """A worker, and a client of the library, ask a sidecar on another host by TLS, with certificates on both sides."""
    server, own, port = authority.sign("server"), authority.sign("worker"), free_port()
    flags = ["--tls-cert", str(server.certificate), "--tls-key", str(server.key)]
    flags += ["--tls-client-ca", str(authority.certificate), "--listen", f"0.0.0.0:{port}"]
    with sidecar_process(*flags, fps=1.0):
        credentials = tls_credentials(authority.certificate, own.certificate, own.key)
        limiter = RateLimiter(f"localhost:{port}", default_fps=float("inf"), deadline=60.0, credentials=credentials)
        assert limiter.wait_ready(60.0)
        assert limiter.decide([("cam", 1.0), ("cam", 1.5)]) == [Reason.ADMITTED, Reason.TOO_SOON]
        assert not limiter.away
        limiter.close()

        publish_many(valkey.bytes, 30, fps=10.0, name="tls")
        trust = ["--sidecar-ca", str(authority.certificate)]
        trust += ["--sidecar-cert", str(own.certificate), "--sidecar-key", str(own.key)]
        with worker(valkey, "--drain", *trust, sidecar=f"localhost:{port}") as process:
            assert process.wait() == 0
        assert accounting(valkey.bytes)["counted"] == 3
