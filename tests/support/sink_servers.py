"""Servers that sinks write to: Debian's Mosquitto and PostgreSQL, and an HTTP server in this process."""

import contextlib
import http.server
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from support.processes.ports import accepts, free_port
from support.waiting import wait_until


def program(name: str, *folders: str) -> str:
    """The path of a program. Without it the test is skipped, or fails in CI."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *folders]))
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return found


@contextlib.contextmanager
def mosquitto(port: int = 0, password: str = "") -> Iterator[int]:
    """An MQTT broker; yields its port. With a password, the user "worker" has to give it."""
    broker, port = program("mosquitto"), port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"listener {port} 127.0.0.1", f"allow_anonymous {'false' if password else 'true'}"]
        if os.geteuid() == 0:
            lines.append("user root")
        if password:
            users = Path(folder) / "users"
            users.touch(mode=0o600)
            subprocess.run(
                [program("mosquitto_passwd"), "-b", users, "worker", password], check=True, capture_output=True
            )
            lines.append(f"password_file {users}")
        config = Path(folder) / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        process = subprocess.Popen([broker, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: accepts(port), "mosquitto listens")
            yield port
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL; yields the URL of a database of the user "postgres", whose password is SECRET."""
    folders = [str(each) for each in Path("/usr/lib/postgresql").glob("*/bin")]
    initdb, server, port = program("initdb", *folders), program("postgres", *folders), free_port()
    # It refuses to run as root.
    as_user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        data, secret = Path(folder) / "data", Path(folder) / "secret"
        secret.write_text("SECRET\n")
        if as_user:
            shutil.chown(folder, "postgres")
            shutil.chown(secret, "postgres")
        subprocess.run(
            [initdb, "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", secret, "-N", "-E", "UTF8"],
            check=True, capture_output=True, cwd=folder, **as_user,
        )  # fmt: skip
        words = [
            server,
            "-D",
            data,
            "-p",
            str(port),
            "-c",
            "fsync=off",
            "-k",
            folder,
            "-c",
            "listen_addresses=127.0.0.1",
        ]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **as_user)
        try:
            url = f"postgresql://postgres:SECRET@127.0.0.1:{port}/postgres"
            wait_until(lambda: _answers(url), "postgresql answers")
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM would wait for the clients
            process.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


class Request(NamedTuple):
    """What an HTTP server got."""

    path: str
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes


class WebHook:
    """An HTTP server that answers with the statuses in turn; the last one stays."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[Request] = []
        self.statuses = list(statuses) or [200]
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook.requests.append(Request(self.path, headers, body))
                status = hook.statuses.pop(0) if len(hook.statuses) > 1 else hook.statuses[0]
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def web_hook(*statuses: int) -> Iterator[WebHook]:
    """An HTTP server for a block."""
    hook = WebHook(*statuses)
    try:
        yield hook
    finally:
        hook.close()
