"""The worker's connections to Redis and to the sidecar: passwords, TLS, Sentinels."""

import contextlib
import re
import socket
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.files import files
from support.frame_queue import FrameQueue
from support.processes.ports import free_port
from support.processes.programs import REPOSITORY
from support.processes.sidecars import sidecar_process
from support.processes.workers import KEYS, QueueServer, accounting, balance, pending, picture, publish_many, worker
from support.redis.topologies import plain_client, replicated, tls_server, tls_skip
from support.redis.valkey import Valkey
from support.redis.valkey import valkey as valkey_server
from support.tls import Authority
from support.waiting import wait_until

from handcounter.client import RateLimiter, tls_credentials
from handcounter.pacing.schedule import Reason
from process.redis_access import RedisAccess
from worker.publish.source import Captured
from worker.queue.keys import CONSUMER_GROUP
from worker.queue.redis_client import connect


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    server = QueueServer(tmp_path)
    yield server
    server.close()


def test_queue_behind_sentinels(tmp_path: Path) -> None:
    """A worker follows the failover of its queue; on the promoted server everything received was settled exactly once."""
    with replicated() as servers:
        queue = types.SimpleNamespace(url=servers.url, folder=tmp_path)
        with plain_client(servers.master.port) as client:
            publish_many(client, 300)
            client.wait(1, 10_000)
        with worker(queue, seconds=0.005) as process, plain_client(servers.replica.port) as promoted:
            wait_until(lambda: accounting(promoted).get("counted", 0) >= 50)
            servers.master.kill()
            wait_until(lambda: promoted.info("replication")["role"] == "master")
            publish_many(promoted, 100, name="later")
            wait_until(lambda: accounting(promoted).get("received") == 400 and pending(promoted) == 0)
            assert balance(promoted) == 0
            assert accounting(promoted) == {"received": 400, "counted": 400}
            assert process.terminate() == 0
        assert "Redis works again" in process.log


def test_a_sentinel_that_is_down_is_asked_once() -> None:
    """The next Sentinel is asked at once, so a Sentinel that is down delays nothing."""
    with replicated() as servers, socket.create_server(("127.0.0.1", 0)) as broken:
        attempts = []

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = broken.accept()
                    attempts.append(connection.getpeername())
                    connection.close()

        refusing = threading.Thread(target=refuse, daemon=True)
        refusing.start()
        sentinels = servers.url.removeprefix("redis+sentinel://")
        with connect(f"redis+sentinel://127.0.0.1:{broken.getsockname()[1]},{sentinels}") as client:
            assert client.ping()
        broken.shutdown(socket.SHUT_RDWR)
        refusing.join()
        assert len(attempts) == 1


def test_password_of_the_queue_in_a_file(tmp_path: Path) -> None:
    """The password is read from the file, and a wrong one is reported as such."""
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


def test_password_file_that_vanishes(tmp_path: Path) -> None:
    """While a secret is replaced its file may be missing or unreadable: worker and publisher go on with the last password."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    with valkey_server("--requirepass", "secret") as server, plain_client(server.port, password="secret") as client:
        queue = types.SimpleNamespace(url=server.url, folder=tmp_path)
        with worker(queue, "--redis-password-file", str(password)) as process:
            for round_number, content in enumerate([None, b"\xff\xfe\x00", b""], start=1):
                publish_many(client, 10, name=f"round{round_number}-")
                wait_until(lambda end=10 * round_number: accounting(client).get("counted") == end)
                password.unlink(missing_ok=True) if content is None else password.write_bytes(content)
                client.client_kill_filter(_type="normal", skipme=True)
            publish_many(client, 10, name="last")
            wait_until(lambda: accounting(client).get("counted") == 40)
            assert process.terminate() == 0
        assert process.log.count("using the last password of Redis") == 1
        assert "Traceback" not in process.log
        assert balance(client) == 0


def test_password_file_that_appears_late(tmp_path: Path) -> None:
    """Without any password Redis counts as unreachable, and the frame is published once there is one."""
    password = tmp_path / "password"
    access = RedisAccess(password_file=password)
    with valkey_server("--requirepass", "secret") as server, connect(server.url, access) as client:
        frames = FrameQueue(client, KEYS, "cam")
        published = threading.Thread(target=frames.publish, args=(Captured(1.0, picture()),))
        published.start()
        with pytest.raises(redis.ConnectionError, match="cannot read"):
            client.ping()
        password.write_text("secret\n")
        published.join(20.0)
        assert client.xlen(KEYS.frames) == 1


@pytest.mark.skipif(tls_skip(), reason="no Redis server with TLS on this machine")
def test_redis_by_tls(authority: Authority) -> None:
    """The server's certificate is verified with the CA, and the client's own is presented."""
    server, own = authority.sign("localhost"), authority.sign("worker")
    access = RedisAccess(ca=authority.certificate, certificate=own.certificate, key=own.key)
    with tls_server(authority.certificate, server.certificate, server.key) as port:
        url = f"rediss://localhost:{port}/0"
        with connect(url, access) as client:
            assert client.ping()
        with connect(url) as stranger, pytest.raises(redis.ConnectionError):
            stranger.ping()


def test_sidecar_by_tls(valkey: QueueServer, authority: Authority) -> None:
    """A worker and a user's client reach a sidecar on another host over TLS, with certificates on both sides."""
    server, own, port = authority.sign("server"), authority.sign("worker"), free_port()
    flags = ["--tls-cert", str(server.certificate), "--tls-key", str(server.key)]
    flags += ["--tls-client-ca", str(authority.certificate), "--listen", f"0.0.0.0:{port}"]
    with sidecar_process(*flags, redis_url=valkey.url, fps=1.0):
        credentials = tls_credentials(authority.certificate, own.certificate, own.key)
        limiter = RateLimiter(f"localhost:{port}", default_fps=float("inf"), deadline=60.0, credentials=credentials)
        assert limiter.wait_ready(60.0)
        assert limiter.decide([("cam", 1.0), ("cam", 1.5)]) == [Reason.ADMITTED, Reason.TOO_SOON]
        assert not limiter.sidecar_unreachable
        limiter.close()

        publish_many(valkey.bytes, 30, fps=10.0, name="tls")
        trust = ["--sidecar-ca", str(authority.certificate)]
        trust += ["--sidecar-cert", str(own.certificate), "--sidecar-key", str(own.key)]
        with worker(valkey, "--drain", *trust, sidecar=f"localhost:{port}") as process:
            assert process.wait() == 0
        assert accounting(valkey.bytes)["counted"] == 3


@pytest.fixture(scope="module")
def users() -> dict[str, list[str]]:
    """Returns the commands in the documentation by the user that they create."""
    commands = re.findall(r"^ACL SETUSER .*$", (REPOSITORY / "docs/redis-acl.md").read_text(), re.MULTILINE)
    return {words[2]: words for words in map(str.split, commands)}


def test_documented_permissions_are_enough(valkey: QueueServer, users: dict[str, list[str]], tmp_path: Path) -> None:
    """As the documented users, a publisher publishes, and a worker counts, skips, adopts and releases."""
    for user in ("hand-counter", "hand-counter-publish"):
        valkey.bytes.execute_command(*users[user])
    address = f"SECRET@127.0.0.1:{valkey.port}/0"
    queue = types.SimpleNamespace(url=f"redis://hand-counter:{address}", folder=tmp_path)
    with connect(f"redis://hand-counter-publish:{address}") as client:
        frames = FrameQueue(client, KEYS, "cam")
        for number in range(20):
            assert frames.publish(Captured(1000.0 + number, picture()))
    valkey.bytes.xgroup_create(KEYS.frames, CONSUMER_GROUP, id="0")
    valkey.bytes.xreadgroup(CONSUMER_GROUP, "gone", {KEYS.frames: ">"}, count=5)
    valkey.bytes.hincrby(KEYS.accounting, "received", 5)
    with worker(queue, "--claim-idle", "0.2") as process:
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 20)
        assert process.terminate() == 0
    assert valkey.bytes.acl_log() == []


def test_no_documented_permission_is_spare(users: dict[str, list[str]]) -> None:
    """The program, or redis-py for it, runs each command that its documented user is permitted."""
    sources = {
        "hand-counter": files("worker/queue/*.py", "worker/queue/lua/*.lua"),
        "hand-counter-publish": files("worker/publish/*.py", "worker/publish/*.lua"),
    }
    for user, paths in sources.items():
        text = "".join(path.read_text() for path in paths).replace('"', "'")
        commands = {word[1:] for word in users[user] if word.startswith("+")} - {"evalsha", "script|load"}
        assert commands
        for command in commands:
            scripted = all(f"'{part}'" in text for part in command.upper().split("|"))
            assert scripted or f".{command.replace('|', '_')}" in text, command


def test_documented_permission_of_the_sentinels_is_enough() -> None:
    """The Sentinels are asked only for the master."""
    with replicated() as servers:
        sentinel = int(servers.url.split("/mymaster")[0].rpartition(":")[2])
        with plain_client(sentinel) as client:
            client.execute_command("ACL SETUSER asker on >SECRET -@all +sentinel|masters")
            access = RedisAccess(sentinel_username="asker", sentinel_password="SECRET")
            with connect(servers.url, access) as found:
                assert found.ping()
            assert client.acl_log() == []
