"""What callers can't make grow: the calls that are open at one time."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servers import free_port, sidecar_process, wait_until

from sidecar.health import MAX_WATCHERS
from sidecar.server import MAX_HEALTH_CALLS, MAX_HEALTH_REQUEST_BYTES

CHECK = "/grpc.health.v1.Health/Check"
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def probes() -> Iterator[grpc.Channel]:
    """A channel to the address for probes."""
    address = f"127.0.0.1:{free_port()}"
    with sidecar_process("--health-listen", address), grpc.insecure_channel(address) as channel:
        yield channel


def status_of(call: grpc.Future) -> grpc.StatusCode:
    """How a call that failed ended."""
    error = call.exception(timeout=120)
    assert isinstance(error, grpc.RpcError)
    return error.code()


def test_watchers_leave_room_for_probes(probes: grpc.Channel) -> None:
    """A few may watch the health; more are refused, probes are answered meanwhile, and who leaves makes room."""
    stub = health_pb2_grpc.HealthStub(probes)
    request = health_pb2.HealthCheckRequest()
    watching = [stub.Watch(request, timeout=120) for _ in range(MAX_WATCHERS)]
    assert {next(watch).status for watch in watching} == {SERVING}
    for _ in range(2 * MAX_HEALTH_CALLS):
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.Watch(request, timeout=120))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Check(request, timeout=120).status == SERVING
    watching.pop().cancel()

    def watched() -> bool:
        try:
            watching.append(stub.Watch(request, timeout=120))
            return next(watching[-1]).status == SERVING
        except grpc.RpcError:
            return False

    wait_until(watched, "the watcher that left to make room")


def test_calls_for_probes_are_bounded(probes: grpc.Channel) -> None:
    """Calls that never send their request don't add up: those beyond the bound are refused at once."""
    over = threading.Event()
    check = probes.stream_unary(CHECK)
    calls = [check.future(iter(over.wait, True), timeout=120) for _ in range(MAX_HEALTH_CALLS + 50)]
    wait_until(lambda: sum(call.done() for call in calls) >= 50, "the calls beyond the bound to be refused")
    refused = [status_of(call) for call in calls if call.done()]
    assert refused == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 50
    over.set()
    for call in calls:
        call.cancel()


def test_requests_of_probes_are_small(probes: grpc.Channel) -> None:
    """What is larger than the name of any component is refused."""
    request = health_pb2.HealthCheckRequest(service="x" * MAX_HEALTH_REQUEST_BYTES)
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(probes).Check(request, timeout=120)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
