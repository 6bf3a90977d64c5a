"""The fake sidecar, seen by a client of the contract."""

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.waiting import wait_until

from handcounter.client import RateLimiter, Reason, open_channel
from handcounter.client.testing import FakeSidecar
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

TIMEOUT_S = 60.0


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """A fake sidecar as a user makes it."""
    with FakeSidecar(fps={"fast": 10.0, "paused": 0.0}, default_fps=2.0) as sidecar:
        yield sidecar


@pytest.fixture
def stub(sidecar: FakeSidecar) -> Iterator[RateLimitServiceStub]:
    """Its client."""
    with open_channel(sidecar.address) as channel:
        yield RateLimitServiceStub(channel)


def test_one_frame(sidecar: FakeSidecar, stub: RateLimitServiceStub) -> None:
    """The answer has every field of the contract."""
    answer = stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="fast", ts=1.0), timeout=TIMEOUT_S)
    assert answer == pb.ShouldProcessResponse(
        should_process=True,
        reason=pb.REASON_ADMITTED,
        fps=10.0,
        fps_source=pb.FPS_SOURCE_OVERRIDE,
        next_ts=answer.next_ts,
    )
    assert answer.next_ts == pytest.approx(1.1, abs=1e-5)
    other = stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="other"), timeout=TIMEOUT_S)
    assert (other.fps, other.fps_source) == (2.0, pb.FPS_SOURCE_DEFAULT)
    assert sidecar.requests[0] == [("fast", 1.0)]
    (arrived,) = sidecar.requests[1]
    assert arrived[1] > 1.7e9  # without a ts it is the time of arrival


def test_a_batch(sidecar: FakeSidecar, stub: RateLimitServiceStub) -> None:
    """By the real rule, in order."""
    request = pb.ShouldProcessBatchRequest(stream_names=["fast", "fast", "paused"], ts=[1.0, 1.05, 1.0])
    answers = stub.ShouldProcessBatch(request, timeout=TIMEOUT_S)
    assert list(answers.reasons) == [Reason.ADMITTED, Reason.TOO_SOON, Reason.PAUSED]
    assert list(answers.should_process) == [True, False, False]
    assert answers.next_ts[2] == math.inf


@pytest.mark.parametrize(
    ("stream_names", "ts", "details"),
    [
        (["a", ""], [1.0, 1.0], "frame 1: stream_name must not be empty"),
        (["a", "b"], [1.0], "ts must be empty or as long as stream_names, got 1 ts for 2 stream_names"),
        (["a"] * 4097, [], "a batch may have at most 4096 frames, got 4097"),
    ],
)
def test_what_the_contract_forbids(
    sidecar: FakeSidecar, stub: RateLimitServiceStub, stream_names: list[str], ts: list[float], details: str
) -> None:
    """A request that isn't valid fails as with a real sidecar, and isn't recorded."""
    with pytest.raises(grpc.RpcError) as failed:
        stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=stream_names, ts=ts), timeout=TIMEOUT_S)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, details)
    call = stub.ShouldProcessSession(iter([pb.ShouldProcessSessionRequest(stream_names=stream_names, ts=ts)]))
    with pytest.raises(grpc.RpcError) as failed:
        next(call)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, details)
    assert sidecar.requests == []


def test_without_leases_every_frame_is_asked_about(sidecar: FakeSidecar) -> None:
    """So a changed limit acts on the next frame."""
    with RateLimiter(sidecar.address, default_fps=1.0, deadline=TIMEOUT_S) as limiter:
        for ts, expected in ((1.0, Reason.ADMITTED), (1.4, Reason.TOO_SOON)):
            assert limiter.decide([("cam", ts)]) == [expected]
        sidecar.fps["cam"] = 0.0
        assert limiter.decide([("cam", 1.45)]) == [Reason.PAUSED]
        sidecar.fps["cam"] = 10.0
        assert limiter.decide([("cam", 1.5)]) == [Reason.ADMITTED]
    assert sidecar.requests == [[("cam", 1.0)], [("cam", 1.4)], [("cam", 1.45)], [("cam", 1.5)]]


def test_real_time_is_set_by_the_test(sidecar: FakeSidecar) -> None:
    """A stream whose clock restarts waits for one period of it."""
    with RateLimiter(sidecar.address, default_fps=1.0, deadline=TIMEOUT_S) as limiter:
        assert limiter.decide([("cam", 100.0), ("cam", 1.0)]) == [Reason.ADMITTED, Reason.TOO_SOON]
        sidecar.now += 0.5
        assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]


def test_it_restarts_at_the_same_address_without_its_schedules(sidecar: FakeSidecar) -> None:
    """As a real sidecar does; what the test set stays."""
    address = sidecar.address
    request = pb.ShouldProcessRequest(stream_name="fast", ts=1.0)
    for _ in range(2):
        with open_channel(address) as channel:
            answer = RateLimitServiceStub(channel).ShouldProcess(request, timeout=TIMEOUT_S)
        assert (answer.reason, answer.fps) == (pb.REASON_ADMITTED, 10.0)
        sidecar.stop()
        sidecar.start()
    assert sidecar.address == address
    sidecar.stop()
    sidecar.stop()


def test_an_address_that_is_taken_is_an_error(sidecar: FakeSidecar, tmp_path: Path) -> None:
    """Two fakes never share a port."""
    with pytest.raises(RuntimeError):
        FakeSidecar(address=sidecar.address).start()


def test_a_silent_call_ends_with_its_client(sidecar: FakeSidecar, stub: RateLimitServiceStub) -> None:
    """It waits for the client's deadline and leaves no thread behind."""
    sidecar.silent = True
    with pytest.raises(grpc.RpcError) as failed:
        stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam", ts=1.0), timeout=0.1)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_ended_sessions_leave_no_thread(sidecar: FakeSidecar) -> None:
    """However many clients come and go."""

    def readers() -> int:
        return sum(thread.name == "fake-sidecar-session" for thread in threading.enumerate())

    for _ in range(100):
        with RateLimiter(sidecar.address, default_fps=1.0, deadline=TIMEOUT_S) as limiter:
            assert limiter.wait_ready(TIMEOUT_S)
    wait_until(lambda: readers() == 0)
    wait_until(lambda: not sidecar._outboxes)
