"""The sidecar's own needs: memory, start-up time, CPU per decision.

    python -m bench.footprint

Memory: with a real Valkey and 1,000 streams, each with its own limit and admitted often enough to have all of its state.
With --log-format json there is one more process (docs/decisions/0031): its memory that it doesn't share with the sidecar.
Start: from the start of the process to the first answer for a client that connects within 2 ms of when it can, with Redis
running; the median of several starts. A start before them caches all bytecode in a folder of this bench.

CPU: 32 cameras of 30 fps, started at different times and limited to 2. That makes 960 decisions per second at their real
pace, because waking up costs as much as deciding. In each 30th of a second, the 32 frames are decided one by one or
together, in calls or with the Python client in a session, including its reports of leased denials. The client's CPU is
that of all its threads, minus that of a loop that decides nothing. At 1,000 decisions per second it is the share of a core.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import redis
from support.processes.ports import accepts, free_port
from support.processes.programs import repository_environment
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey
from support.waiting import wait_until

from bench.servers import channel_to, children, cpu_seconds, private_bytes, resident_bytes
from handcounter.client import RateLimiter
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
    """Returns the time from the start of a sidecar's process to its first decision, milliseconds."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    flags = ["--redis-url", redis_url, "--listen", address, "--http", ""]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", *flags], env=dict(environment), stderr=subprocess.DEVNULL
    )
    try:
        # gRPC itself retries only every 100 ms, which would cause most of the scatter.
        wait_until(lambda: accepts(port), "the sidecar to listen", every_s=0.002)
        with channel_to(address) as channel:
            stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            stub.ShouldProcess(pb.ShouldProcessRequest(stream_name="cam1", ts=1.0), timeout=30.0)
        return (time.perf_counter() - begun) * 1e3
    finally:
        process.terminate()
        process.wait(10.0)


def starts_ms(redis_url: str, count: int) -> list[float]:
    """Returns the times of several starts, milliseconds each."""
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**repository_environment(), "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        start_ms(redis_url, environment)
        return [start_ms(redis_url, environment) for _ in range(count)]


def nothing(_frames: Frames) -> int:
    """Does nothing: shows the cost of the loop itself."""
    return 0


def unary(stub: rate_limit_pb2_grpc.RateLimitServiceStub) -> Callable[[Frames], int]:
    """Makes one call per frame."""
    return lambda frames: sum(
        stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=name, ts=ts)).should_process for name, ts in frames
    )


def batches(stub: rate_limit_pb2_grpc.RateLimitServiceStub) -> Callable[[Frames], int]:
    """Makes one call for all frames."""

    def decide(frames: Frames) -> int:
        names, tss = zip(*frames, strict=True)
        return sum(stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names, ts=tss)).should_process)

    return decide


def singly_leased(limiter: RateLimiter) -> Callable[[Frames], int]:
    """Asks in a session about each frame separately, unless a lease denies it."""
    return lambda frames: sum(limiter.decide([frame]) == [Reason.ADMITTED] for frame in frames)


def leased(limiter: RateLimiter) -> Callable[[Frames], int]:
    """Asks in a session about all frames at once, except those that leases deny."""
    return lambda frames: limiter.decide(frames).count(Reason.ADMITTED)


def play(decide: Callable[[Frames], int], name: str, seconds: float, pid: int) -> tuple[Cpu, int]:
    """Plays cameras that are new to the sidecar; returns the CPU per decision and the number of admitted frames."""
    names = [f"{name}-{number:02}" for number in range(CAMERAS)]
    ticks, admitted = int(seconds * CAMERA_FPS), 0
    warm = CAMERA_FPS  # the cameras begin at different times within the first second, so that they aren't due together
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
    parser.add_argument("--seconds", type=float, default=4.0, help="per round and variant")
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
        with sidecar_process("--log-format", "json", redis_url=server.url) as speaking_json:
            relay = sum(map(private_bytes, children(speaking_json.pid))) / 2**20
    medians = {way: Cpu(*map(statistics.median, zip(*each, strict=True))) for way, each in cpu.items()}
    loop = medians.pop("nothing")
    start = statistics.median(starts)
    print(f"memory (RSS): {idle:.1f} MiB at the start, {full:.1f} MiB with {STREAMS:,} streams")
    print(f"with --log-format json: {relay:.1f} MiB more")
    print(f"first decision {start:.0f} ms after the start of the process ({min(starts):.0f} to {max(starts):.0f})")
    print(
        f"{CAMERAS} cameras of {CAMERA_FPS} fps limited to {LIMIT:g}; {by_lease:.1%} of the session's frames denied by a lease"
    )
    print(f"{'CPU µs per decision':28}{'sidecar':>10}{'client':>10}{'sidecar, of a core at 1,000/s':>32}")
    for way, each in medians.items():
        print(f"{way:28}{each.sidecar:10.1f}{each.client - loop.client:10.1f}{each.sidecar / 1000:32.1%}")
    print(f"for comparison, without any decision: sidecar {loop.sidecar:.1f}, client {loop.client:.1f}")
    print(f"goal: at most {GOAL_MIB:.0f} MiB: {'met' if full <= GOAL_MIB else 'MISSED'}")
    print(
        f"goal: at most {GOAL_START_MS:.0f} ms to the first decision: {'met' if start <= GOAL_START_MS else 'MISSED'}"
    )
    figures: dict[str, object] = {
        "idle_mib": idle,
        "full_mib": full,
        "json_mib": relay,
        "start_ms": start,
        "by_lease": by_lease,
    }
    figures["cpu_us"] = {way: each._asdict() for way, each in [*medians.items(), ("nothing", loop)]}
    print(json.dumps({"bench": "footprint", **figures}))


if __name__ == "__main__":
    main()
