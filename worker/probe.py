"""Checks the health of a running worker: ``python -m worker.probe``, for container runtimes that can't make HTTP requests.

Requests /healthz at the given HOST:PORT, else at WORKER_HTTP, where the worker serves it. The exit code is 0 if frames
can be counted, 1 if not, and 2 if the address isn't valid; the reason is on standard error.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence

from process.address import split_host_port

DEFAULT_ADDRESS = "127.0.0.1:9465"
TIMEOUT_S = 2.0


def problem(address: str, timeout: float = TIMEOUT_S) -> str:
    """Returns why the worker at this address isn't healthy; empty if it is.

    Args:
        address: HOST:PORT.
        timeout: seconds.

    Raises:
        ValueError: the address isn't valid.
    """
    host, port = split_host_port(address)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return "" if answer.status == 200 else f"{address}: {answer.status} {answer.read(1000).decode().strip()}"
    except OSError as error:
        return f"{address}: {error}"
    finally:
        connection.close()


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Checks the worker and returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        found = problem(given[0] if given else environ.get("WORKER_HTTP") or DEFAULT_ADDRESS)
    except ValueError as error:
        print(f"python -m worker.probe [HOST:PORT]: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if found:
        print(found, file=sys.stderr)  # noqa: T201 - the runtime shows it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
