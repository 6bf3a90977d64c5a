"""The cost of a decision in a batch, compared with asking Redis about each frame.

    python -m bench.batch

The baseline is the first design: one HGET by redis-py per frame, with the time of the last admitted frame in a dict.
Both sides decide the same frames in the same process, in turns, over several rounds; the results are medians. The time of
a batch includes building the request from lists, the call, and reading the answers. CPU is the sum over the
client, the sidecar and Valkey.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.servers import channel_to, cpu_seconds
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
GOALS = {64: 8.0, 256: 18.0}


class Cost(NamedTuple):
    """Microseconds per decision."""

    wall: float
    cpu: float


Frames = list[tuple[str, float]]


def make_frames(count: int, streams: int, round_number: int) -> Frames:
    """Returns the frames of several 30 fps cameras, in order."""
    first = round_number * count
    return [(f"camera-{number % streams:04}", 1.7e9 + number // streams / 30) for number in range(first, first + count)]


class PerFrame:
    """The first design: one HGET per frame."""

    def __init__(self, client: redis.Redis, default: float) -> None:
        self._client = client
        self._default = default
        self._last: dict[str, float] = {}

    def decide(self, frames: Frames) -> int:
        """Asks Redis about each frame; returns the number of admitted frames."""
        admitted = 0
        for name, ts in frames:
            value = self._client.hget(KEY, name)
            fps = self._default if value is None else float(value)
            if ts - self._last.get(name, -1e9) >= 1.0 / fps:
                self._last[name] = ts
                admitted += 1
        return admitted


def batches(stub: rate_limit_pb2_grpc.RateLimitServiceStub, size: int) -> Callable[[Frames], int]:
    """Asks the sidecar about frames, in batches of the given size."""

    def decide(frames: Frames) -> int:
        admitted = 0
        for start in range(0, len(frames), size):
            names, tss = zip(*frames[start : start + size], strict=True)
            answer = stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names, ts=tss))
            reasons, fps, next_ts = list(answer.reasons), list(answer.fps), list(answer.next_ts)
            assert len(reasons) == len(fps) == len(next_ts)
            admitted += sum(answer.should_process)
        return admitted

    return decide


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=8192, help="per round and side")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=2) as sidecar,
        channel_to(sidecar.address) as channel,
    ):
        client.hset(KEY, mapping={f"camera-{number:04}": "2" for number in range(0, options.streams, 2)})
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        sides: dict[str, Callable[[Frames], int]] = {"HGET per frame": PerFrame(client, 2.0).decide}
        sides.update({f"batches of {size}": batches(stub, size) for size in GOALS})
        pids = (os.getpid(), sidecar.pid, server.pid)
        costs: dict[str, list[Cost]] = {side: [] for side in sides}
        for number in range(options.rounds + 1):
            for place, (side, decide) in enumerate(sides.items()):
                # Each side has its own stretch of stream time, so that its frames are new to everybody.
                frames = make_frames(options.frames, options.streams, number * len(sides) + place)
                cpu, wall = sum(map(cpu_seconds, pids)), time.perf_counter()
                assert decide(frames) > 0
                wall, cpu = time.perf_counter() - wall, sum(map(cpu_seconds, pids)) - cpu
                if number:
                    costs[side].append(Cost(wall / len(frames) * 1e6, cpu / len(frames) * 1e6))
    medians = {side: Cost(*map(statistics.median, zip(*each, strict=True))) for side, each in costs.items()}
    print(f"{options.streams} streams, {options.frames} frames a round, median of {options.rounds} rounds")
    print(f"{'':18}{'wall µs':>10}{'CPU µs':>10}{'times cheaper':>16}{'goal':>8}")
    measure = medians["HGET per frame"].wall
    for side, cost in medians.items():
        print(f"{side:18}{cost.wall:10.2f}{cost.cpu:10.2f}", end="")
        print() if side == "HGET per frame" else print(f"{measure / cost.wall:16.1f}{GOALS[int(side[11:])]:8.0f}")
    met = all(measure / medians[f"batches of {size}"].wall >= goal for size, goal in GOALS.items())
    print(f"goals: {'met' if met else 'MISSED'}")
    print(json.dumps({"bench": "batch", **{side: cost._asdict() for side, cost in medians.items()}}))


if __name__ == "__main__":
    main()
