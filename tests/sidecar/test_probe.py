"""The probe for containers whose runtime can't ask for gRPC health by itself."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from support.processes.programs import repository_environment

from sidecar.probe import main

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
    """The exit code is 0 and nothing is printed, wherever the address comes from."""
    address, _ = served
    assert main([address]) == 0
    assert main([], {"SIDECAR_LISTEN": f"{address}, unix:/somewhere"}) == 0
    assert main([], {"SIDECAR_LISTEN": "unix:/nowhere", "SIDECAR_HEALTH_LISTEN": address}) == 0
    assert capsys.readouterr().err == ""


def test_a_proxy_of_the_environment_is_not_used(served, monkeypatch):
    """The sidecar is on this machine, so a proxy isn't meant for it."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert main([served[0]]) == 0


def test_a_sidecar_that_shuts_down_is_not(served, capsys):
    """NOT_SERVING is exit code 1, and printed."""
    address, servicer = served
    servicer.set("", Status.NOT_SERVING)
    assert main([address]) == 1
    assert capsys.readouterr().err == f"{address}: NOT_SERVING\n"


def test_an_unreachable_sidecar_is_reported(capsys):
    """If nothing listens on the address, the probe says so and exits 1."""
    assert main(["unix:/nowhere/sidecar.sock"]) == 1
    assert "unix:/nowhere/sidecar.sock: UNAVAILABLE" in capsys.readouterr().err


def test_an_invalid_address_is_one_line(capsys):
    """Wrong usage is exit code 2, and the line has the usage."""
    assert main(["--help"]) == 2
    usage = "python -m sidecar.probe [HOST:PORT|unix:/PATH]"
    assert capsys.readouterr().err == f"{usage}: expected HOST:PORT, got '--help'\n"


def test_grpc_is_silenced_before_it_is_imported():
    """A container's log gets the one line of the probe, and none from gRPC, unless GRPC_VERBOSITY is set."""
    code = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_VERBOSITY"))
            sys.exit()
sys.meta_path.insert(0, Finder())
from sidecar.probe import main
main(["unix:/nowhere/fps.sock"])
"""
    environment = {name: value for name, value in repository_environment().items() if name != "GRPC_VERBOSITY"}
    command = [sys.executable, "-c", code]
    for given, expected in (({}, "NONE"), ({"GRPC_VERBOSITY": "debug"}, "debug")):
        done = subprocess.run(command, env=environment | given, capture_output=True, text=True, timeout=120)
        assert done.stdout.split() == [expected], done.stderr
