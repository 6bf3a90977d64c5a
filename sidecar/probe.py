"""Asks a running sidecar for its health: ``python -m sidecar.probe``, for containers whose runtime can't ask.

Asks in plain text at the address that the environment configures (SIDECAR_HEALTH_LISTEN, else the first address of
SIDECAR_LISTEN) or at the one that is given. Exit code 0 if the sidecar serves, 1 if it doesn't, 2 if the address isn't
valid, with the reason on standard error, as JSON if SIDECAR_LOG_FORMAT says so. A sidecar that demands TLS needs
SIDECAR_HEALTH_LISTEN to be probed.
"""

import os
import sys
from collections.abc import Mapping, Sequence

from process import native_lines, probe
from process.logs import silence_grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"


def problem(address: str, timeout_s: float = probe.TIMEOUT_S) -> str | None:
    """Asks for the health of the whole server. Returns why it isn't serving, or None if it is.

    Raises:
        ValueError: The address isn't HOST:PORT or unix:/path.
    """
    # After main has silenced gRPC.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from handcounter.client.channel import open_channel

    with open_channel(probe.local_address(address)) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined] # missing in the stubs
            answer = check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs the probe; returns the exit code."""
    silence_grpc()
    listen = environ.get("SIDECAR_HEALTH_LISTEN") or environ.get("SIDECAR_LISTEN", "").split(",")[0].strip()
    native_lines.prepare((), environ, "SIDECAR_")
    return probe.run(argv, "python -m sidecar.probe [HOST:PORT|unix:/PATH]", listen or DEFAULT_ADDRESS, problem)


if __name__ == "__main__":
    sys.exit(main())
