"""Asks a running worker for its health: ``python -m worker.probe``, for containers whose runtime can't ask.

Asks /healthz at the address that the environment configures (WORKER_HTTP) or at the HOST:PORT that is given. Exit code 0
if the worker can count frames, 1 if it can't, 2 if the address isn't valid, with the reason on standard error, as JSON if
WORKER_LOG_FORMAT says so.

The image's health check runs this whatever the container's command is. Only `hand-counter run` and `ingest` have an
endpoint, so in a container that runs another command, such as `publish`, the exit code is 0: the container is as healthy as it
is running.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from process import logs, probe
from process.address import split_host_port

DEFAULT_ADDRESSES = {"run": "127.0.0.1:9465", "ingest": "127.0.0.1:9466"}
"""Of the commands that have an endpoint."""


def problem(address: str, timeout_s: float = probe.TIMEOUT_S) -> str | None:
    """Asks an HTTP endpoint. Returns why the worker isn't healthy, or None if it is.

    Raises:
        ValueError: The address isn't HOST:PORT.
    """
    connection = http.client.HTTPConnection(*split_host_port(probe.local_address(address)), timeout=timeout_s)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return None if answer.status == 200 else f"{answer.status} {answer.read(1000).decode().strip()}"
    except OSError as error:
        return str(error)
    finally:
        connection.close()


def command_of(first_process: Path) -> str:
    """Returns the command of `hand-counter` that this container's first process runs; empty if it is another program.

    Args:
        first_process: the command line of process 1, words that each end with a NUL.
    """
    try:
        words = [os.path.basename(word) for word in first_process.read_text().split("\0")]  # noqa: PTH119 - any word
    except (OSError, ValueError):
        return ""
    if "hand-counter" not in words:
        return ""
    return next(iter(words[words.index("hand-counter") + 1 :]), "")


def main(
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    first_process: Path = Path("/proc/1/cmdline"),
) -> int:
    """Runs the probe; returns the exit code."""
    command = command_of(first_process)
    if not (sys.argv[1:] if argv is None else argv) and command and command not in DEFAULT_ADDRESSES:
        return probe.HEALTHY
    logs.prepare((), environ, "WORKER_")
    address = environ.get("WORKER_HTTP") or DEFAULT_ADDRESSES.get(command, DEFAULT_ADDRESSES["run"])
    return probe.run(argv, "python -m worker.probe [HOST:PORT]", address, problem)


if __name__ == "__main__":
    sys.exit(main())
