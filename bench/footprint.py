"""What the sidecar takes for itself: memory, time to start, CPU per decision.

    python -m bench.footprint

Memory: with a real Valkey, 1,000 streams that have a limit each and were admitted often enough for all that is kept about
them. Start: from spawning the process to the first answer of a client that connects within 2 ms of when it can, Redis being
there; medians over several starts, all bytecode cached, by a start before them in a folder of this bench's own.

CPU: 32 cameras of 30 fps, begun at times of their own, limited to 2: 960 decisions a second, at that pace, since waking up
costs as much as deciding. Each 30th of a second the 32 frames are decided one by one, or all in one; by calls, or by the
worker's client with its session, whose reports of what its leases denied are counted with it. The client's CPU is that of
all its threads, less that of a loop that decides nothing. Per 1,000 decisions a second it is the share of a core.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import redis
from support.processes.ports import free_port
from support.processes.programs import repository_environment
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey
from support.waiting import wait_until

from bench.servers import channel_to, cpu_seconds, resident_bytes
from handcounter.client.rate_limiter import RateLimiter
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
STREAMS = 1000
FILL_FRAMES = 70
GOAL_MIB, GOAL_START_MS = 75.0, 400.0
CAMERAS, CAMERA_FPS, LIMIT = 32, 30, 2.0

Frames = list[tuple[str, float]]


class Cpu(NamedTuple):
    """Microseconds per decision."""

    sidecar: float
    client: float


def start_ms(redis_url: str, environment: Mapping[str, str]) -> float:
    """Time from spawning a sidecar to the first decision, milliseconds."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    flags = ["--redis-url", redis_url, "--listen", address, "--http", ""]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", *flags], env=dict(environment), stderr=subprocess.DEVNULL
    )
    try:
        # A channel of gRPC tries to connect every 100 ms at most, which would be most of the scatter.
        wait_until(lambda: accepts(port), "the sidecar to listen", every_s=0.002)
        with channel_to(address) as channel:
            stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam1", ts=1.0), timeout=30.0)
        return (time.perf_counter() - begun) * 1e3
    finally:
        process.terminate()
        process.wait(10.0)


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def starts_ms(redis_url: str, count: int) -> list[float]:
    """Several starts, milliseconds each."""
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**repository_environment(), "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        start_ms(redis_url, environment)
        return [start_ms(redis_url, environment) for _ in range(count)]


def nothing(_frames: Frames) -> int:
    """What the loop itself takes."""
    return 0


def unary(stub: rate_limit_pb2_grpc.RateLimitServiceStub) -> Callable[[Frames], int]:
    """A call for each frame."""
    return lambda frames: sum(
        stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=name, ts=ts)).should_process for name, ts in frames
    )


def batches(stub: rate_limit_pb2_grpc.RateLimitServiceStub) -> Callable[[Frames], int]:
    """A call for all frames."""

    def decide(frames: Frames) -> int:
        names, tss = zip(*frames, strict=True)
        return sum(stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names, ts=tss)).should_process)

    return decide


def singly_leased(limiter: RateLimiter) -> Callable[[Frames], int]:
    """A session that is asked about each frame that no lease denies."""
    return lambda frames: sum(limiter.decide([frame]) == [Reason.ADMITTED] for frame in frames)


def leased(limiter: RateLimiter) -> Callable[[Frames], int]:
    """A session that is asked once about all frames that no lease denies."""
    return lambda frames: limiter.decide(frames).count(Reason.ADMITTED)


def play(decide: Callable[[Frames], int], name: str, seconds: float, pid: int) -> tuple[Cpu, int]:
    """Lets cameras that are new to the sidecar play; gives the CPU per decision and the number of admitted frames."""
    names = [f"{name}-{number:02}" for number in range(CAMERAS)]
    ticks, admitted = int(seconds * CAMERA_FPS), 0
    warm = CAMERA_FPS  # the cameras begin within the first second, so that they are not due together
    sidecar = client = 0.0
    begun = time.monotonic()
    for tick in range(warm + ticks):
        if tick == warm:
            sidecar, client, admitted = cpu_seconds(pid), time.process_time(), 0
        seen = names[: tick + 2] if tick < warm else names
        admitted += decide([(each, 1e6 + tick / CAMERA_FPS) for each in seen])
        time.sleep(max(0.0, begun + (tick + 1) / CAMERA_FPS - time.monotonic()))
    spent = (cpu_seconds(pid) - sidecar, time.process_time() - client)
    return Cpu(*(each / ticks / CAMERAS * 1e6 for each in spent)), admitted


def main() -> None:
    """Prints tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=4.0, help="per round and way")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=LIMIT) as sidecar,
        channel_to(sidecar.address) as channel,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        stub.GetServerInfo(pb.GetServerInfoRequest())
        idle = resident_bytes(sidecar.pid) / 2**20
        names = [f"camera-{number:04}" for number in range(STREAMS)]
        client.hset(KEY, mapping=dict.fromkeys(names, "2.5"))
        for number in range(FILL_FRAMES):
            stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names, ts=[float(number)] * STREAMS))
        full = resident_bytes(sidecar.pid) / 2**20
        decided: Counter[str] = Counter()
        limiter = RateLimiter(
            sidecar.address,
            default_fps=1.0,
            deadline=10.0,
            on_decided=lambda by, frames: decided.update({by: frames}),
        )
        assert limiter.wait_ready(10.0)
        ways: dict[str, Callable[[Frames], int]] = {
            "nothing": nothing,
            "unary": unary(stub),
            f"batches of {CAMERAS}": batches(stub),
            "session, frame by frame": singly_leased(limiter),
            f"session, batches of {CAMERAS}": leased(limiter),
        }
        cpu: dict[str, list[Cpu]] = {way: [] for way in ways}
        for number in range(options.rounds):
            for way, decide in ways.items():
                cost, admitted = play(decide, f"{way} {number}", options.seconds, sidecar.pid)
                expected = 0 if way == "nothing" else CAMERAS * options.seconds * LIMIT
                assert abs(admitted - expected) <= 2.5 * CAMERAS, (way, admitted, expected)
                cpu[way].append(cost)
        by_lease = decided["lease"] / (decided["lease"] + decided["sidecar"])
        assert not decided["local"]
        limiter.close()
        starts = starts_ms(server.url, options.starts)
    medians = {way: Cpu(*map(statistics.median, zip(*each, strict=True))) for way, each in cpu.items()}
    loop = medians.pop("nothing")
    start = statistics.median(starts)
    print(f"memory (RSS): {idle:.1f} MiB at the start, {full:.1f} MiB with {STREAMS:,} streams")
    print(f"first decision {start:.0f} ms after the process was spawned ({min(starts):.0f} to {max(starts):.0f})")
    print(f"{CAMERAS} cameras of {CAMERA_FPS} fps limited to {LIMIT:g}; {by_lease:.1%} of the session's by a lease")
    print(f"{'CPU µs per decision':28}{'sidecar':>10}{'client':>10}{'sidecar, of a core at 1,000/s':>32}")
    for way, each in medians.items():
        print(f"{way:28}{each.sidecar:10.1f}{each.client - loop.client:10.1f}{each.sidecar / 1000:32.1%}")
    print(f"for comparison, without any decision: sidecar {loop.sidecar:.1f}, client {loop.client:.1f}")
    print(f"goal: at most {GOAL_MIB:.0f} MiB: {'met' if full <= GOAL_MIB else 'MISSED'}")
    print(
        f"goal: at most {GOAL_START_MS:.0f} ms to the first decision: {'met' if start <= GOAL_START_MS else 'MISSED'}"
    )
    figures: dict[str, object] = {"idle_mib": idle, "full_mib": full, "start_ms": start, "by_lease": by_lease}
    figures["cpu_us"] = {way: each._asdict() for way, each in [*medians.items(), ("nothing", loop)]}
    print(json.dumps({"bench": "footprint", **figures}))


if __name__ == "__main__":
    main()
