"""The machine's clock is stepped: frames without a ts are paced by real time, and frames with a ts are unaffected."""

import time
from collections.abc import Iterator

import grpc
import pytest
from support.processes.sidecars import sidecar_process
from support.processes.stepped_clock import SteppedClock
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

FPS = 4.0
CREDIT_FRAMES = 2.5


@pytest.fixture(scope="module")
def stepped(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[SteppedClock, "rate_limit_pb2_grpc.RateLimitServiceStub"]]:
    """Yields a sidecar at 4 fps whose wall clock can be stepped; each test has a stream of its own."""
    clock = SteppedClock(tmp_path_factory.mktemp("clock"))
    with (
        sidecar_process(fps=FPS, environment=clock.environment) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        yield clock, rate_limit_pb2_grpc.RateLimitServiceStub(channel)


def test_a_step_of_the_clock_causes_no_flood(stepped) -> None:
    """Any step admits at most a stream's credit at once, real time paces the rest, and the stream continues."""
    clock, stub = stepped
    begun, admitted, steps = time.monotonic(), 0, 0

    def ask() -> bool:
        nonlocal admitted
        yes = stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="no-ts"), timeout=120).should_process
        admitted += yes
        return yes

    for offset in (0.0, 3600.0, -3600.0, -3601.0, 86_400.0, 86_401.5, 0.0):
        clock.step_to(offset)
        steps += 1
        for _ in range(2):
            wait_until(ask, f"an admitted frame at an offset of {offset:.0f} s")
    elapsed = time.monotonic() - begun
    assert 2 * steps <= admitted <= elapsed * FPS + steps * CREDIT_FRAMES


def test_a_clock_that_swings_is_paced_by_real_time(stepped) -> None:
    """A clock that jumps back by a minute at each frame gets no more admissions than a steady one."""
    clock, stub = stepped
    begun, admitted = time.monotonic(), 0
    for number in range(150):
        clock.step_to(-60.0 * number)
        admitted += stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="swinging"), timeout=120).should_process
    assert 1 <= admitted <= (time.monotonic() - begun) * FPS + 1.0


def test_frames_with_a_ts_do_not_notice(stepped) -> None:
    """The machine's clock doesn't affect the decision about a frame with a ts."""
    clock, stub = stepped
    reasons = []
    for number in range(40):
        clock.step_to((-1.0) ** number * 1000.0 * number)
        request = pb.ShouldProcessRequest(stream_name="with-ts", ts=100.0 + number / 8)
        reasons.append(stub.ShouldProcess(request, timeout=120).reason)
    assert reasons == [pb.REASON_ADMITTED, pb.REASON_TOO_SOON] * 20
