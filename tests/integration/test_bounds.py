"""Bounds on what callers can use: the open calls, and the memory that refused ones leave behind."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.clients.http2 import RST_STREAM, raw_client
from support.processes.ports import free_port
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.waiting import until, wait_until

from handcounter.pacing.bounds import MAX_BATCH_BYTES
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.rpc.health import MAX_WATCHERS
from sidecar.rpc.request_guard import MAX_SMALL_BYTES
from sidecar.server import MAX_HEALTH_CALLS, MAX_HEALTH_REQUEST_BYTES

SERVICE = "/handcounter.ratelimit.v1.RateLimitService"
CHECK = "/grpc.health.v1.Health/Check"
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def probes() -> Iterator[grpc.Channel]:
    """Yields a channel to the address for probes."""
    address = f"127.0.0.1:{free_port()}"
    with sidecar_process("--health-listen", address), grpc.insecure_channel(address) as channel:
        yield channel


def status_of(call: grpc.Future) -> grpc.StatusCode:
    """Returns the status of a failed call."""
    error = call.exception(timeout=120)
    assert isinstance(error, grpc.RpcError)
    return error.code()


def test_watchers_leave_room_for_probes(probes: grpc.Channel) -> None:
    """A bounded number of calls may watch the health; more are refused, probes are answered, and an ended call makes room."""
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
    """Calls that never send their request are bounded: those beyond the bound are refused at once."""
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
    """A request that is larger than the name of any component is rejected."""
    request = health_pb2.HealthCheckRequest(service="x" * MAX_HEALTH_REQUEST_BYTES)
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(probes).Check(request, timeout=120)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def sidecar() -> Iterator[SidecarProcess]:
    """Returns a sidecar for tests that don't change it."""
    with sidecar_process() as running:
        yield running


async def test_answers_that_nobody_reads_end() -> None:
    """The sidecar looks for them by itself, every few seconds."""
    constants = {"sidecar.rpc.unread_answers.REQUEST_S": 0.2, "sidecar.rpc.unread_answers.ANSWER_S": 0.2}
    with sidecar_process(constants=constants) as sidecar:
        with grpc.insecure_channel(sidecar.address) as first:  # see unread_answers.py
            health_pb2_grpc.HealthStub(first).Check(health_pb2.HealthCheckRequest(), timeout=120)
        port = int(sidecar.address.rpartition(":")[2])
        async with raw_client(port, window=0) as client, raw_client(port) as another:
            call = client.call(f"{SERVICE}/ListStreams", b"")

            def is_reset() -> bool:
                another.call(f"{SERVICE}/GetServerInfo", b"")  # gRPC may let go of a call at the next one only
                return client.got.get(call, [None])[-1] == RST_STREAM

            await until(is_reset, "it is reset")


LONG_NAME = pb.ShouldProcessRequest(stream_name="x" * MAX_SMALL_BYTES).SerializeToString()
MANY_NAMES = pb.ShouldProcessBatchRequest(stream_names=["x"] * (MAX_BATCH_BYTES // 3)).SerializeToString()
BIG_BATCH = pb.ShouldProcessBatchRequest(stream_names=["x" * (MAX_BATCH_BYTES + 1)]).SerializeToString()


@pytest.mark.parametrize(
    ("method", "request_bytes", "says"),
    [
        ("ShouldProcess", LONG_NAME, f"at most {MAX_SMALL_BYTES} bytes"),
        ("ShouldProcessBatch", BIG_BATCH, f"at most {MAX_BATCH_BYTES} bytes"),
        ("ShouldProcessBatch", MANY_NAMES, "at most 4096 frames"),
        ("ListStreams", b"\x0a" * (MAX_SMALL_BYTES + 1), f"at most {MAX_SMALL_BYTES} bytes"),
    ],
)
def test_more_than_a_method_needs_is_refused(
    sidecar: SidecarProcess, method: str, request_bytes: bytes, says: str
) -> None:
    """A request larger than any valid one of its method gets RESOURCE_EXHAUSTED, and the message names the bound."""
    with grpc.insecure_channel(sidecar.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{SERVICE}/{method}")(request_bytes, timeout=120)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert says in (refused.value.details() or "")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell a process's memory")
@pytest.mark.parametrize("method", ["ShouldProcessBatch", "ShouldProcessSession"])
def test_refused_calls_leave_nothing_behind(method: str) -> None:
    """Many refused calls, one after the other, take no more memory than a few."""
    with sidecar_process(fresh=True) as sidecar, grpc.insecure_channel(sidecar.address) as channel:

        def refuse(times: int) -> int:
            """Makes refused calls; returns the peak of the memory so far, MiB."""
            for _ in range(times):
                with pytest.raises(grpc.RpcError):
                    list(channel.stream_stream(f"{SERVICE}/{method}")(iter((MANY_NAMES,)), timeout=120))
            (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{sidecar.pid}/status").read_text())
            return int(peak) // 1024

        few = refuse(3)
        assert refuse(12) < few + 100
