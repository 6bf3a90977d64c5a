"""fpsctl with a real sidecar, as users with few permissions, on a cluster, over TLS, and on a terminal."""

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer
from support.fpsctl import LIMITS, Fpsctl, fpsctl_on, rules_of
from support.processes.ports import free_port
from support.processes.programs import REPOSITORY, kill
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.topologies import cluster, tls_server, tls_skip
from support.redis.valkey import Valkey, valkey
from support.tls import Authority
from support.waiting import wait_until

from console.fpsctl.app import app
from console.fpsctl.board import read_board
from console.fpsctl.connect import session_from
from handcounter.client import RateLimiter

FLAGS = {
    parameter.name: parameter.default for parameter in typer.main.get_command(app).params if parameter.name != "version"
}
"""The flags of the program and their defaults."""


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A server for all tests, which empty it."""
    with valkey() as running:
        yield running


@pytest.fixture
def fpsctl(server: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fpsctl:
    """Runs a command on an empty Redis in which workers have seen some streams, without a sidecar."""
    return fpsctl_on(server, monkeypatch, capsys)


@pytest.fixture(scope="module")
def sidecar(server: Valkey) -> Iterator[SidecarProcess]:
    """A sidecar with a default of 1.5."""
    with sidecar_process(redis_url=server.url, fps=1.5) as running:
        yield running


def test_a_sidecar_is_asked(fpsctl: Fpsctl, sidecar: SidecarProcess, tmp_path: Path) -> None:
    """top, explain, list and doctor show what it says."""
    with RateLimiter(sidecar.address, default_fps=0.0) as limiter:
        wait_until(lambda: limiter.decide([("cam-1", time.time())])[0].name == "TOO_SOON")
    address = ("--sidecar", sidecar.address)
    top = fpsctl("top", "--json", *address).json["streams"]
    (cam,) = (each for each in top if each["name"] == "cam-1")
    assert (cam["limit"], cam["source"], cam["state"], cam["admitted"]) == (1.5, "default", "live", 1)
    assert "all others: 1.5, from the sidecar's --fps" in fpsctl("list", *address).out
    explained = fpsctl("explain", "cam-1", *address).out
    for words in ("limit     1.5", "1 admitted", "last      too_soon", "after the last admitted one", "hands     1"):
        assert words in explained
    lost = fpsctl("explain", "yard", *address).out
    assert "its publisher can't read the camera: refused\\x1b" in lost
    fpsctl("pause", "cam-1")
    wait_until(lambda: "none, since it is paused" in fpsctl("explain", "cam-1", *address).out)
    bundle = tmp_path / "bundle.tar.gz"
    examined = fpsctl("doctor", "--bundle", str(bundle), *address)
    assert examined.code == 0, examined.out
    assert f"ok    sidecar {sidecar.address}: serves" in examined.out
    assert "ok    queue cap: 0 entries, and at most about 20000 are kept" in examined.out
    with tarfile.open(bundle) as archive:
        names = {Path(name).name for name in archive.getnames()}
    assert {"checks.json", "limits.yaml", "audit.json", "streams.json", "sidecars.json", "redis-info.json"} <= names


def test_doctor_finds_what_is_wrong(fpsctl: Fpsctl, server: Valkey) -> None:
    """A user without permissions, a key of another type, a limit that isn't valid, and no sidecar where one is expected."""
    with server.client() as client:
        client.execute_command("ACL SETUSER fps-sidecar on nopass -@all +ping ~*")
        client.set(f"{LIMITS}:patterns", "text")
        client.set(f"{LIMITS}:seen", "text")
        found = {each["name"]: each["status"] for each in fpsctl("doctor", "--json").json["checks"]}
        client.execute_command("ACL DELUSER fps-sidecar")
    assert (found["user fps-sidecar"], found["key patterns"], found["limits"], found["key seen"]) == ("failed",) * 4
    assert [status for name, status in found.items() if name.startswith("sidecar ")] == ["failed"]
    assert found["redis"] == "ok"
    for flag in ("--config-key", "--prefix"):
        assert (fpsctl("list", flag, "").code, f"{flag} must not be empty" in fpsctl("list", flag, "").err) == (2, True)
    nowhere = fpsctl("doctor", "--redis-url", f"redis://127.0.0.1:{free_port()}")
    assert (nowhere.code, "Redis is unreachable" in nowhere.out) == (3, True)


@contextlib.contextmanager
def user(server: Valkey, name: str) -> Iterator[str]:
    """A user of docs/redis-acl.md, as a URL."""
    with server.client() as client:
        client.execute_command(*rules_of(name))
        client.execute_command("ACL LOG RESET")
        try:
            yield server.url.replace("//", f"//{name}:SECRET@")
        finally:
            client.execute_command("ACL DELUSER", name)


def test_the_documented_operator_may_do_everything(fpsctl: Fpsctl, server: Valkey, tmp_path: Path) -> None:
    """On a real server nothing is denied."""
    with user(server, "fps-operator") as url, server.client() as client:
        for words in (
            "set cam-1 2", "set --pattern cam-* 3", "boost cam-1 9", "pause cam-1", "resume cam-1", "reset cam-1",
            "set yard 2", "undo", "get yard", "list", "top", "explain yard", "audit", "lint", "export", "results",
            f"doctor --bundle {tmp_path / 'b.tar.gz'}",
        ):  # fmt: skip
            assert fpsctl(*words.split(), "--redis-url", url).err.count("permission") == 0, words
        assert [entry["object"] for entry in client.acl_log()] == []


def test_users_of_programs_see_what_they_may(fpsctl: Fpsctl, server: Valkey, sidecar: SidecarProcess) -> None:
    """In a container of the sidecar or the worker fpsctl shows what its user can read, and what is missing."""
    fpsctl("set", "cam-1", "2")
    with RateLimiter(sidecar.address, default_fps=0.0) as limiter:
        wait_until(lambda: limiter.decide([("cam-1", time.time())])[0].name == "TOO_SOON")
    address = ("--sidecar", sidecar.address)
    with user(server, "fps-sidecar") as url:
        for words in ("top", "list", "get cam-1", "explain cam-1", "lint", "doctor"):
            assert fpsctl(*words.split(), "--redis-url", url, *address).code == 0, words
        denied = fpsctl("set", "cam-1", "3", "--redis-url", url, *address)
        assert (denied.code, "the operator in docs/redis-acl.md" in denied.err) == (1, True)
    with user(server, "hand-counter") as url:
        shown = fpsctl("top", "--json", "--redis-url", url, *address).json
        (cam,) = (each for each in shown["streams"] if each["name"] == "cam-1")
        assert (cam["limit"], cam["source"]) == (2.0, "override")
        assert any("permission" in problem for problem in shown["problems"])


def test_without_redis(fpsctl: Fpsctl) -> None:
    """One line, with what to do, and without the password."""
    ended = fpsctl("list", "--redis-url", f"redis://:hunter2@127.0.0.1:{free_port()}")
    assert (ended.code, ended.err.count("\n"), "hunter2" in ended.err) == (1, 1, False)
    assert fpsctl("list", "--redis-url", "http://x").code == 2
    assert fpsctl("list", "--sidecar", "http://x").code == 2
    assert fpsctl("list", "--sidecar-cert", "x").code == 2


def test_a_cluster(fpsctl: Fpsctl) -> None:
    """Limits, audit and the hashes of streams may be on different nodes, and the queue may have partitions."""
    with cluster(nodes=3) as nodes:
        for node in nodes.nodes:
            nodes.ask(node, *rules_of("fps-operator"), "+cluster|slots", "+command")
        url = ("--redis-url", nodes.url.replace("//", "//fps-operator:SECRET@"))
        with contextlib.closing(redis.RedisCluster("127.0.0.1", nodes.nodes[0].port)) as client:
            client.set("{hand_counter}:partitions", "4")
            client.hset("{hand_counter:2}:stream:cam1", mapping={"heard_at": time.time(), "hand_count": 4})
        assert fpsctl("set", "cam1", "2", *url).out == "cam1: none → 2\n"
        assert fpsctl("boost", "cam1", "5", *url).code == 0
        (cam,) = fpsctl("top", "--json", *url).json["streams"]
        assert (cam["name"], cam["limit"], cam["hands"]) == ("cam1", 5.0, 4)
        assert len(fpsctl("audit", "--json", *url).json["changes"]) == 2
        assert fpsctl("doctor", "--json", *url).json["checks"]
        assert [nodes.ask(node, "ACL", "LOG") for node in nodes.nodes] == [[], [], []]


@pytest.mark.skipif(tls_skip(), reason="needs Debian's redis-server")
def test_tls(fpsctl: Fpsctl, tmp_path: Path) -> None:
    """The server is verified and gets the client's certificate."""
    authority = Authority(tmp_path)
    server, client = authority.sign("server"), authority.sign("client")
    with tls_server(authority.certificate, server.certificate, server.key) as port:
        url = ("--redis-url", f"rediss://localhost:{port}/0", "--redis-ca", str(authority.certificate))
        assert fpsctl("set", "cam1", "2", *url).code == 1
        files = ("--redis-cert", str(client.certificate), "--redis-key", str(client.key))
        assert fpsctl("set", "cam1", "2", *url, *files).out == "cam1: none → 2\n"
        assert "ok    tls: the connection to Redis is encrypted" in fpsctl("doctor", *url, *files).out
        stranger = ("--redis-ca", str(Authority(tmp_path, "stranger").certificate))
        assert fpsctl("get", "cam1", *url, *files, *stranger).code == 1


@contextlib.contextmanager
def running(*words: str, **streams: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a command as a process while the block runs."""
    command = [sys.executable, "-m", "console.fpsctl", *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, **streams)
    try:
        yield process
    finally:
        kill(process)


def test_watch_prints_changes(fpsctl: Fpsctl, server: Valkey) -> None:
    """By fpsctl, and by others, as they are made."""
    with running("watch", "--count", "2", stdout=subprocess.PIPE) as process, server.client() as client:
        wait_until(lambda: any(each["cmd"].startswith("xread") for each in client.client_list()), "it waits")
        fpsctl("set", "cam-1", "3")
        client.hset(LIMITS, "cam-1", "4")
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0
    assert re.search(r"cam-1: none → 3  \(ann\)\n.*cam-1: 3 → 4  \(somebody with another tool\)", printed.decode())


def test_top_on_a_terminal(fpsctl: Fpsctl) -> None:
    """It is drawn in 80 columns, a filter is typed, and q ends it, with the terminal as it was."""
    assert fpsctl("set", "cam-1", "3").code == 0
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    before = termios.tcgetattr(end)
    drawn = b""

    def shows(words: bytes) -> bool:
        nonlocal drawn
        while select.select([terminal], [], [], 0.01)[0]:
            drawn += os.read(terminal, 65536)
        return words in drawn

    with running("top", stdin=end, stdout=end, env={**os.environ, "TERM": "xterm-256color"}) as process:
        wait_until(lambda: shows(b"cam-2"), "it is drawn")
        assert rb"\x1b[31" in drawn
        os.write(terminal, b"/yard\n")
        wait_until(lambda: shows(b"(1 shown)"), "it is filtered")
        os.write(terminal, b"q")
        wait_until(lambda: not shows(b"never") and process.poll() is not None, "it ends")
        assert process.returncode == 0
    assert termios.tcgetattr(end) == before
    os.close(terminal)
    os.close(end)


def test_streams_are_found_in_parts_and_forgotten(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search is bounded and goes on where it ended; a stream whose hash has expired isn't shown any more."""
    monkeypatch.setattr("console.fpsctl.workers.SCAN_COUNT", 10)
    with server.client() as client:
        client.flushall()
        for number in range(200):
            client.set(f"{{hand_counter}}:frame:{number}", "picture")
            client.hset(f"{{hand_counter}}:stream:cam{number}", "heard_at", time.time())
        session = session_from({**FLAGS, "redis_url": server.url})
        first = len(read_board(session, 2).rows)
        assert 0 < first < 100
        wait_until(lambda: len(read_board(session, 2).rows) == 200, "all are found")
        client.delete("{hand_counter}:stream:cam7")
        assert len(read_board(session, 0).rows) == 199
        assert "cam7" not in session.workers.names(0)
        session.close()
