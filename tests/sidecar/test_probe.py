"""The probe of containers that can't ask for gRPC health themselves."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from sidecar.probe import main, target

Status = health_pb2.HealthCheckResponse


@pytest.fixture
def served() -> Iterator[tuple[str, health.HealthServicer]]:
    """The address of a real server, and its health."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(None).wait()


def test_a_serving_sidecar_is_healthy(served, capsys):
    """The exit code is 0 and nothing is said, wherever the address comes from."""
    address, _ = served
    assert main([address]) == 0
    assert main([], {"SIDECAR_LISTEN": f"{address}, unix:/somewhere"}) == 0
    assert main([], {"SIDECAR_LISTEN": "unix:/nowhere", "SIDECAR_HEALTH_LISTEN": address}) == 0
    assert capsys.readouterr().err == ""


def test_a_sidecar_that_shuts_down_is_not(served, capsys):
    """NOT_SERVING is exit code 1, and said."""
    address, servicer = served
    servicer.set("", Status.NOT_SERVING)
    assert main([address]) == 1
    assert capsys.readouterr().err == f"{address}: NOT_SERVING\n"


def test_nobody_there_is_told(capsys):
    """Where nobody listens the probe says so, and ends."""
    assert main(["unix:/nowhere/sidecar.sock"]) == 1
    assert "unix:/nowhere/sidecar.sock: UNAVAILABLE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        (":50051", "127.0.0.1:50051"),
        ("[::]:50051", "[::1]:50051"),
        ("127.0.0.2:50051", "127.0.0.2:50051"),
        ("unix:/run/s.sock", "unix:/run/s.sock"),
    ],
)
def test_every_interface_is_asked_on_the_loopback(listen: str, asked: str):
    """An address that means every interface can be listened on, but not asked."""
    assert target(listen) == asked


def test_what_is_no_address_is_one_line(capsys):
    """Wrong usage is exit code 2."""
    assert main(["--help"]) == 2
    assert capsys.readouterr().err.endswith("expected HOST:PORT, got '--help'\n")
