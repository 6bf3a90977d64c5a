"""What the sidecar takes for itself: memory, time to start, CPU per decision.

    python -m bench.footprint

Memory: with a real Valkey, 1,000 streams that have a limit each and were admitted often enough for all that is kept about
them. Start: from spawning the process to the first answer of a client that connects within 2 ms of when it can, Redis being
there; medians over several starts, all bytecode cached, by a start before them in a folder of this bench's own. CPU: the
process's time per 1,000 decisions of 32 streams at 30 fps limited to 2, over the whole call; per 1,000 decisions a second it
is the share of a core.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

import redis

from bench.servers import channel_to, cpu_seconds, resident_bytes
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from tests.servers import free_port, repository_environment, sidecar_process, valkey, wait_until

KEY = "stream_fps_configs"
STREAMS = 1000
FILL_FRAMES = 70
GOAL_MIB, GOAL_START_MS = 75.0, 400.0
BATCH = 32


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


def unary(stub: rate_limit_pb2_grpc.RateLimitServiceStub, names: list[str], tss: list[float]) -> None:
    """Asks about one frame after the other."""
    for name, ts in zip(names, tss, strict=True):
        stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=name, ts=ts))


def batches(stub: rate_limit_pb2_grpc.RateLimitServiceStub, names: list[str], tss: list[float]) -> None:
    """Asks about 32 frames at a time."""
    for start in range(0, len(names), BATCH):
        part = slice(start, start + BATCH)
        stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names[part], ts=tss[part]))


WAYS: dict[str, Callable[[rate_limit_pb2_grpc.RateLimitServiceStub, list[str], list[float]], None]] = {
    "unary": unary,
    f"batches of {BATCH}": batches,
}


def main() -> None:
    """Prints tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=9)
    parser.add_argument("--decisions", type=int, default=3200, help="per round and way")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=2.0) as sidecar,
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
        cpu: dict[str, list[float]] = {way: [] for way in WAYS}
        frame = 1000
        for number in range(options.rounds + 1):
            for way, decide in WAYS.items():
                frames = range(frame, frame := frame + options.decisions)
                asked, tss = [names[index % 32] for index in frames], [1e6 + index // 32 / 30 for index in frames]
                before = cpu_seconds(sidecar.pid)
                decide(stub, asked, tss)
                if number:
                    cpu[way].append((cpu_seconds(sidecar.pid) - before) / options.decisions * 1e6)
        starts = starts_ms(server.url, options.starts)
    medians = {way: statistics.median(each) for way, each in cpu.items()}
    start = statistics.median(starts)
    print(f"memory (RSS): {idle:.1f} MiB at the start, {full:.1f} MiB with {STREAMS:,} streams")
    print(f"first decision {start:.0f} ms after the process was spawned ({min(starts):.0f} to {max(starts):.0f})")
    print(f"{'':16}{'CPU µs per decision':>22}{'of a core at 1,000/s':>24}")
    for way, each in medians.items():
        print(f"{way:16}{each:22.1f}{each / 1000:24.1%}")
    print(f"goal: at most {GOAL_MIB:.0f} MiB: {'met' if full <= GOAL_MIB else 'MISSED'}")
    print(
        f"goal: at most {GOAL_START_MS:.0f} ms to the first decision: {'met' if start <= GOAL_START_MS else 'MISSED'}"
    )
    figures = {"idle_mib": idle, "full_mib": full, "start_ms": start, "cpu_us": medians}
    print(json.dumps({"bench": "footprint", **figures}))


if __name__ == "__main__":
    main()
