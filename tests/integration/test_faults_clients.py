"""Clients that die, hang or cancel during calls."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.clients.fault_load import Load, stream_names
from support.processes import programs
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

FPS = 2.0
CAMERAS = 40


@pytest.fixture
def sidecar() -> Iterator[SidecarProcess]:
    """Returns a sidecar at 2 fps."""
    with sidecar_process(fps=FPS) as running:
        yield running


def client_in_full_swing(sidecar: SidecarProcess) -> programs.Process:
    """Returns a client process with calls in progress."""
    reading, writing = os.pipe()
    process = programs.start("support.clients.busy_caller", sidecar.address, output=writing)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.readline() == "calling\n"
    return process


def open_files(pid: int) -> int:
    """Returns the number of open files and sockets of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_clients_that_die_or_hang_in_a_call_harm_no_other(sidecar: SidecarProcess, number: signal.Signals) -> None:
    """Calls of other clients succeed and obey the law, and the resources of dead clients are released."""
    with Load(sidecar.address, streams=CAMERAS) as load:
        load.wait_for_batches(4)
        before = open_files(sidecar.pid)
        for _ in range(3):
            client = client_in_full_swing(sidecar)
            try:
                client.send_signal(number)
                load.wait_for_batches(6)
            finally:
                programs.kill(client)
        wait_until(lambda: open_files(sidecar.pid) <= before, "the connections of dead clients are closed")
        load.wait_for_batches(4)
    load.check(most_fps=FPS)
    assert "Traceback" not in sidecar.logs()


def test_cancelled_calls_are_decided_once_or_not_at_all(sidecar: SidecarProcess) -> None:
    """A cancelled call uses at most the admission that it asked for, so the stream keeps its rate."""
    with grpc.insecure_channel(sidecar.address) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        for number in range(200):
            request = pb.ShouldProcessBatchRequest(stream_names=stream_names(), ts=[number / 10] * len(stream_names()))
            stub.ShouldProcessBatch.future(request).cancel()
        same = pb.ShouldProcessRequest(stream_name=stream_names()[0], ts=1000.0)
        assert stub.ShouldProcess(same, timeout=120).reason == pb.REASON_ADMITTED
        assert stub.ShouldProcess(same, timeout=120).reason == pb.REASON_DUPLICATE
        streams = stub.ListStreams(pb.ListStreamsRequest(page_size=1000), timeout=120).streams
        assert all(stream.admitted <= 20 * FPS + 2.5 + 1 for stream in streams)
    assert "Traceback" not in sidecar.logs()
