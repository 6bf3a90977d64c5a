"""More streams than there is room for: eviction never lets a stream exceed its rate, and memory stays bounded."""

import heapq
import random
import time
import urllib.request

import grpc
import pytest
from support.clients.fault_load import CREDIT_FRAMES, worst_excess
from support.models.sidecar_world import World
from support.processes.sidecars import sidecar_process

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

MAX_STREAMS = 100
METRICS_STREAMS = 150
LINES_PER_STREAM = 4
TOO_MANY = 110
"""10 % more streams than there is room for, all of them active."""


@pytest.mark.parametrize("source_fps", [0.7, 3.0, 25.0])
@pytest.mark.parametrize("seed", range(3))
async def test_no_stream_exceeds_its_rate_by_eviction(seed: int, source_fps: float) -> None:
    """With 10 % too many streams at various limits, no stream gets more than its limit in any window."""
    dice = random.Random(seed)
    world = World(max_streams=MAX_STREAMS)
    names = [f"cam{number}" for number in range(TOO_MANY)]
    limits = {name: dice.choice((0.05, 0.2, 1.0, 2.0, 7.0, 30.0)) for name in names}
    for name, fps in limits.items():
        world.set(name, str(fps))
    due = [(dice.random() / source_fps, name) for name in names]
    heapq.heapify(due)
    admitted: dict[str, list[float]] = {name: [] for name in names}
    began = world.now
    for _ in range(12_000):
        after, name = due[0]
        world.now = began + after
        answers = world.decide_all([name], [world.now], world.now)
        if answers.should_process[0]:
            admitted[name].append(world.now)
        # Some cameras are silent for a while; only then may they be evicted.
        pause = dice.choice((1.0, 1.0, 1.0, 1.0, 20.0)) / source_fps
        heapq.heapreplace(due, (after + pause * dice.uniform(0.9, 1.1), name))
    assert world.roster.evicted > 10
    assert len(world.limiter) == MAX_STREAMS
    worst = {name: worst_excess(tss, limits[name]) for name, tss in admitted.items()}
    assert max(worst.values()) <= CREDIT_FRAMES + 1e-4, worst


def metric_lines(http: str) -> list[str]:
    """Returns the lines of /metrics."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=120) as answer:
        return answer.read().decode().splitlines()


def metric(http: str, name: str) -> float:
    """Returns one value of /metrics."""
    return next(float(line.rpartition(" ")[2]) for line in metric_lines(http) if line.startswith(f"{name} "))


def test_too_many_streams_share_a_sidecar_lawfully() -> None:
    """A real sidecar with 10 % too many active streams stays within its bound, refuses some, and exceeds no limit."""
    fps, admitted = 5.0, [[] for _ in range(TOO_MANY)]
    names = [f"cam{number}" for number in range(TOO_MANY)]
    with (
        sidecar_process("--max-streams", str(MAX_STREAMS), fps=fps) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        for number in range(150):
            before = time.monotonic()
            # One stream in eleven is silent at a time, for long enough to be evicted.
            here = [index for index in range(TOO_MANY) if index % 11 != number // 15 % 11]
            request = pb.ShouldProcessBatchRequest(
                stream_names=[names[index] for index in here], ts=[before] * len(here)
            )
            for index, yes in zip(here, stub.ShouldProcessBatch(request, timeout=120).should_process, strict=True):
                if yes:
                    admitted[index].append(before)
            time.sleep(max(0.0, 0.02 - (time.monotonic() - before)))
        assert stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120).stream_count == MAX_STREAMS
        assert metric(sidecar.http, "sidecar_evicted_streams_total") >= 1
        assert metric(sidecar.http, "sidecar_refused_frames_total") >= 1
    worst = max(worst_excess(tss, fps) for tss in admitted)
    assert worst <= CREDIT_FRAMES + 1e-4


def test_names_beyond_counting_leave_nothing_behind() -> None:
    """After ten thousand names with room for a hundred, schedules, lists and metrics hold at most a hundred."""
    with (
        sidecar_process(
            "--max-streams", str(MAX_STREAMS), "--metrics-streams", str(METRICS_STREAMS), fps=1000.0
        ) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        lines = []
        for start in range(0, 10_000, 50):
            names = [f"name-{start + number}" for number in range(50)]
            stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names), timeout=120)
            if start % 1000 == 0:  # each time the streams of another hundred names are live
                lines.append(metric_lines(sidecar.http))
        assert stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120).stream_count == MAX_STREAMS
        assert len(stub.ListStreams(pb.ListStreamsRequest(page_size=1000), timeout=120).streams) == MAX_STREAMS
    # Streams that were evicted keep their series while there is room; then their series make room for others.
    named = [sum('stream_name="name-' in line for line in page) for page in lines]
    assert METRICS_STREAMS < max(named[2:]) == min(named[2:]) <= LINES_PER_STREAM * METRICS_STREAMS
    # New buckets and label values add a few lines; one line per name would add hundreds.
    assert len(lines[-1]) <= len(lines[2]) + 20
