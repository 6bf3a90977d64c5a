"""A real sidecar, a process of its own on free ports.

    with valkey() as redis, sidecar_process(redis_url=redis.url, fps=2) as sidecar:
        channel = grpc.insecure_channel(sidecar.address)

It is ended when the block ends, also if it is paused.
"""

import contextlib
import re
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.processes import programs
from support.processes.ports import free_port

LIMITS_ARE_WAITED_FOR = {"sidecar.limits.follower.FIRST_READING_S": 60.0}
"""Constants of a sidecar in which a stream's first frame waits for its limit, however busy the machine is."""

_SERVES = re.compile(r'sidecar\.server(", "message": "| )serving\b')
"""A line of the log, in text or JSON."""


class SidecarProcess:
    """A running ``python -m sidecar``."""

    def __init__(self, process: programs.Process, address: str, http: str, log: Path) -> None:
        self.process = process
        self.address = address
        """What a gRPC channel takes: 127.0.0.1:PORT."""
        self.http = http
        """HOST:PORT of /metrics and /healthz."""
        self._log = log

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    def logs(self) -> str:
        """Returns everything that it has written to standard error and output so far."""
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Asks it to stop (SIGTERM); see :meth:`wait`."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL) and waits until it is gone."""
        programs.kill(self.process)

    def wait(self, deadline_s: float = programs.STOP_DEADLINE_S) -> int:
        """Waits until it has ended and returns its exit code."""
        return self.process.wait(deadline_s)


@contextlib.contextmanager
def sidecar_process(
    *arguments: str,
    redis_url: str = "redis://127.0.0.1:1/0",
    fps: float = 1.0,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
    fresh: bool = False,
) -> Iterator[SidecarProcess]:
    """Runs a sidecar while the block runs, which begins when its health is SERVING.

    Args:
        arguments: more flags, such as "--pacing", "min-gap"; not a log level at which it doesn't say that it serves.
        redis_url: by default there is no Redis, and the sidecar serves its default.
        fps: the default.
        port: the port to listen on, to start a sidecar where an earlier one was; by default a free one.
        environment: more environment variables.
        constants: values that replace the program's own, such as "sidecar.limits.follower.FIRST_READING_S": 60.0.
        fresh: never fork, see :func:`support.processes.programs.start`.
    """
    with tempfile.TemporaryDirectory(prefix="sidecar-") as folder:
        log = Path(folder) / "log"
        for attempt in range(programs.PORT_ATTEMPTS):
            address = f"127.0.0.1:{port or free_port()}"
            http = f"127.0.0.1:{free_port()}"
            flags = ["--fps", str(fps), "--redis-url", redis_url, "--listen", address, "--http", http, *arguments]
            with log.open("wb") as output:
                process = programs.start(
                    "sidecar",
                    *flags,
                    output=output,
                    folder=folder,
                    environment=environment,
                    constants=constants,
                    fresh=fresh,
                )
            if _serves(process, log):
                break
            programs.end(process)
            if attempt == programs.PORT_ATTEMPTS - 1 or "in use" not in log.read_text(errors="replace"):
                raise ChildProcessError(f"the sidecar did not start:\n{log.read_text(errors='replace')}")
        try:
            yield SidecarProcess(process, address, http, log)
        finally:
            programs.end(process)


def _serves(process: programs.Process, log: Path) -> bool:
    """Waits for the log line that it serves, written once its health is SERVING; returns whether it came.

    A question for its health would cost more than the wait, here and in the sidecar.
    """
    deadline = time.monotonic() + programs.START_DEADLINE_S
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if _SERVES.search(log.read_text(errors="replace")):
            return True
        if ended:
            break
        time.sleep(0.01)
    return False
