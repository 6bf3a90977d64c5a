"""The sidecar's client, against a server of the contract in this process; real sidecars are in tests/integration."""

import logging
import math
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from servers import free_port
from worker_helpers import eventually

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import (
    RateLimitServiceServicer,
    add_RateLimitServiceServicer_to_server,
)
from sidecar.schedule import Reason, Schedule, decide, next_ts
from worker.rate_limit import MAX_BATCH, RateLimiter


class Sidecar(RateLimitServiceServicer):
    """A sidecar with one fps per stream, that can be told to misbehave."""

    def __init__(self) -> None:
        self.port = free_port()
        self.fps: dict[str, float] = {}
        self.schedules: dict[str, Schedule | None] = {}
        self.sizes: list[int] = []
        self.abort: grpc.StatusCode | None = None
        self.answer: pb.ShouldProcessBatchResponse | None = None
        self.server: grpc.Server | None = None
        self.start()

    def start(self) -> None:
        """Listens."""
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        add_RateLimitServiceServicer_to_server(self, self.server)
        assert self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def stop(self) -> None:
        """Is gone, with all that it knew."""
        if self.server:
            self.server.stop(None).wait()
        self.schedules.clear()
        self.server = None

    def ShouldProcessBatch(  # noqa: N802 (the name is the contract's)
        self, request: pb.ShouldProcessBatchRequest, context: grpc.ServicerContext
    ) -> pb.ShouldProcessBatchResponse:
        """Decides."""
        if request.stream_names:
            self.sizes.append(len(request.stream_names))
            if self.abort:
                context.abort(self.abort, "no")
            if self.answer:
                return self.answer
        response = pb.ShouldProcessBatchResponse()
        for name, ts in zip(request.stream_names, request.ts, strict=True):
            fps = self.fps.get(name, 1.0)
            reason, self.schedules[name] = decide(self.schedules.get(name), ts, fps, 0.0)
            response.reasons.append(int(reason))  # type: ignore[arg-type]
            response.should_process.append(reason is Reason.ADMITTED)
            response.fps.append(fps)
            response.next_ts.append(next_ts(self.schedules[name], fps))
        return response


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    """A sidecar that runs."""
    server = Sidecar()
    yield server
    server.stop()


@pytest.fixture
def decided() -> dict[str, int]:
    """Who decided how many frames."""
    return {"sidecar": 0, "local": 0}


@pytest.fixture
def limiter(sidecar: Sidecar, decided: dict[str, int]) -> Iterator[RateLimiter]:
    """Its client, with 2 fps of its own; the deadline is far beyond what a busy machine takes."""

    def count(by: str, number: int) -> None:
        decided[by] += number

    client = RateLimiter(f"127.0.0.1:{sidecar.port}", default_fps=2.0, deadline=10.0, on_decided=count)
    assert client.wait_ready(10.0)
    yield client
    client.close()


def source(fps: float, seconds: float, start: float = 100.0) -> list[float]:
    """The ts of a camera."""
    return [start + i / fps for i in range(round(fps * seconds))]


def frames(name: str, stamps: list[float]) -> list[tuple[str, float]]:
    """Frames of one stream."""
    return [(name, ts) for ts in stamps]


def undisturbed(fps: float, stamps: list[float]) -> list[Reason]:
    """The decisions of one schedule over all frames of a stream."""
    schedule, reasons = None, []
    for ts in stamps:
        reason, schedule = decide(schedule, ts, fps, 0.0)
        reasons.append(reason)
    return reasons


def test_the_sidecars_answers_are_passed_on(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """One call per batch, in the order of the frames."""
    sidecar.fps = {"fast": 10.0, "paused": 0.0}
    batch = [("fast", 1.0), ("paused", 1.0), ("other", 1.0), ("fast", 1.0), ("fast", 1.05), ("fast", 0.5)]
    assert limiter.decide(batch) == [
        Reason.ADMITTED,
        Reason.PAUSED,
        Reason.ADMITTED,
        Reason.DUPLICATE,
        Reason.TOO_SOON,
        Reason.LATE,
    ]
    assert sidecar.sizes == [6]


def test_no_frames_are_no_call(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """An empty batch asks nothing."""
    assert limiter.decide([]) == []
    assert sidecar.sizes == []


def test_large_batches_are_split(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """The contract allows 4096 frames in one call."""
    reasons = limiter.decide([(f"cam{i}", 1.0) for i in range(MAX_BATCH + 10)])
    assert reasons == [Reason.ADMITTED] * (MAX_BATCH + 10)
    assert sidecar.sizes == [MAX_BATCH, 10]


def test_without_a_sidecar_each_stream_goes_on_at_its_last_fps(
    sidecar: Sidecar, limiter: RateLimiter, decided: dict[str, int]
) -> None:
    """The admissions are those that the sidecar would have made; the paused stay paused; unknown ones get --fps."""
    sidecar.fps = {"fast": 20.0, "slow": 0.5, "paused": 0.0, "free": math.inf}
    stamps = source(30, 20)
    for name, fps in sidecar.fps.items():
        assert limiter.decide(frames(name, stamps[:300])) == undisturbed(fps, stamps)[:300]
    sidecar.stop()
    for name, fps in sidecar.fps.items():
        assert limiter.decide(frames(name, stamps[300:])) == undisturbed(fps, stamps)[300:], name
    assert limiter.away
    assert limiter.decide(frames("unknown", stamps)).count(Reason.ADMITTED) == 40
    assert decided == {"sidecar": 1200, "local": 1200 + 600}


def test_loss_and_return_are_said_once(
    sidecar: Sidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """However many batches come meanwhile; and after the return the sidecar is asked again."""
    caplog.set_level(logging.INFO)
    sidecar.stop()
    for i in range(20):
        limiter.decide([("cam", float(i))])
    assert limiter.away
    sidecar.start()
    eventually(lambda: not limiter.away)
    limiter.decide([("cam", 100.0)])
    assert sidecar.sizes == [1]
    away, back = caplog.messages
    assert "is away: pacing here at each stream's last fps, else 2" in away
    assert "is back after" in back


def test_a_change_of_fps_before_the_loss_is_what_counts(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """The last told fps is in force, even where it was told with a denial."""
    limiter.decide([("cam", 1.0)])
    sidecar.fps["cam"] = 0.0
    assert limiter.decide([("cam", 1.5)]) == [Reason.PAUSED]
    sidecar.stop()
    assert limiter.decide([("cam", 1000.0)]) == [Reason.PAUSED]


def test_a_stream_that_was_only_ever_denied_is_paced_from_its_next_ts(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """A worker that was restarted doesn't give such a stream a frame for nothing."""
    sidecar.schedules["cam"] = Schedule(10.0, 10.0, 0.0)
    assert limiter.decide([("cam", 10.5)]) == [Reason.TOO_SOON]
    sidecar.stop()
    assert limiter.decide([("cam", 10.9), ("cam", 11.0)]) == [Reason.TOO_SOON, Reason.ADMITTED]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL]
)
def test_a_refusal_is_paced_here_and_said_once(
    sidecar: Sidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    """A sidecar that refuses isn't away: each batch asks it once, and it is taken up as soon as it answers."""
    sidecar.abort = code
    for i in range(5):
        assert limiter.decide([("cam", i / 2)]) == [Reason.ADMITTED]
    assert limiter.decide([("cam", 2.1)]) == [Reason.TOO_SOON]
    assert not limiter.away
    assert sidecar.sizes == [1] * 6
    (message,) = caplog.messages
    assert f"{code.name}: no" in message
    sidecar.abort = None
    assert limiter.decide([("cam", 2.2)]) == [Reason.ADMITTED]  # the sidecar never saw the stream


@pytest.mark.parametrize(
    "answer",
    [
        pb.ShouldProcessBatchResponse(should_process=[True]),
        pb.ShouldProcessBatchResponse(reasons=[0], fps=[1.0], next_ts=[1.0]),
        pb.ShouldProcessBatchResponse(reasons=[1], fps=[math.nan], next_ts=[1.0]),
        pb.ShouldProcessBatchResponse(reasons=[1], fps=[-1.0], next_ts=[1.0]),
        pb.ShouldProcessBatchResponse(reasons=[1, 1], fps=[1.0, 1.0], next_ts=[1.0, 1.0]),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_refusal(
    sidecar: Sidecar, limiter: RateLimiter, caplog: pytest.LogCaptureFixture, answer: pb.ShouldProcessBatchResponse
) -> None:
    """Columns that don't fit, a reason or an fps that is none: paced here."""
    sidecar.answer = answer
    assert limiter.decide([("cam", 1.0)]) == [Reason.ADMITTED]
    assert limiter.decide([("cam", 1.1)]) == [Reason.TOO_SOON]
    assert len(caplog.messages) == 1


def test_odd_values_of_next_ts_do_no_harm(sidecar: Sidecar, limiter: RateLimiter) -> None:
    """The slot is then the ts of the admission."""
    for odd in (math.nan, math.inf, -math.inf):
        sidecar.answer = pb.ShouldProcessBatchResponse(reasons=[1], fps=[1.0], next_ts=[odd])
        limiter.decide([(str(odd), 1.0)])
    sidecar.stop()
    for odd in (math.nan, math.inf, -math.inf):
        assert limiter.decide([(str(odd), 1.5), (str(odd), 2.0)]) == [Reason.TOO_SOON, Reason.ADMITTED]


def test_only_so_many_streams_are_remembered(sidecar: Sidecar) -> None:
    """The longest silent are forgotten first, with and without a sidecar."""
    limiter = RateLimiter(f"127.0.0.1:{sidecar.port}", default_fps=math.inf, deadline=10.0, max_streams=10)
    sidecar.fps = {f"cam{i}": 0.0 for i in range(100)}
    limiter.decide([(f"cam{i}", 1.0) for i in range(100)])
    assert list(limiter._streams) == [f"cam{i}" for i in range(90, 100)]
    sidecar.stop()
    assert limiter.decide([("cam99", 2.0), ("cam0", 2.0)]) == [Reason.PAUSED, Reason.ADMITTED]
    limiter.decide([(f"another{i}", 1.0) for i in range(20)])
    assert len(limiter._streams) == 10
    limiter.close()
