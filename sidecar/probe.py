"""Asks a running sidecar for its health: ``python -m sidecar.probe``, for containers whose runtime can't ask itself.

Asks, in plain text, where the environment says that the sidecar listens (SIDECAR_HEALTH_LISTEN, else the first address of
SIDECAR_LISTEN), or at the address that is given. Exit code 0 if it serves, 1 if it doesn't, 2 if the address is none, with
the reason on standard error. A sidecar that demands TLS needs SIDECAR_HEALTH_LISTEN to be probed.
"""

import os
import sys
from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from process.address import split_host_port

DEFAULT_ADDRESS = "127.0.0.1:50051"
TIMEOUT_S = 2.0


def target(listen: str) -> str:
    """Where to ask a server that listens on this: on the loopback if it listens on every interface."""
    if listen.startswith("unix:"):
        return listen
    host, port = split_host_port(listen)
    if host in ("", "0.0.0.0"):
        return f"127.0.0.1:{port}"
    if host == "::":
        return f"[::1]:{port}"
    return listen


def problem(address: str, timeout: float = TIMEOUT_S) -> str:
    """Asks for the health of the whole server; gives why it is not serving, or the empty string if it is."""
    with grpc.insecure_channel(address) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined] # the stubs don't know it
            answer = check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Gives the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    listens = environ.get("SIDECAR_HEALTH_LISTEN") or environ.get("SIDECAR_LISTEN", "").split(",")[0].strip()
    try:
        found = problem(target(given[0] if given else listens or DEFAULT_ADDRESS))
    except ValueError as error:
        print(f"python -m sidecar.probe [HOST:PORT|unix:/PATH]: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if found:
        print(found, file=sys.stderr)  # noqa: T201 - it is what the runtime shows
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
