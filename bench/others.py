"""The cost of a decision with the sidecar, with Redis asked directly, and with rate limiters from PyPI that use Redis.

    pip install limits==5.8.0 throttled-py==3.5.0 pyrate-limiter==4.5.1
    python -m bench.others

One client process, one Valkey and the same frames for all sides, in turns, over several rounds; the results are medians.
Direct HGET is the first design: one lookup per frame, with the time of the last admitted frame in a dict. The libraries keep
their state in Redis with a fixed limit, each with its cheapest suitable algorithm; to follow live limits they would need the
HGET in addition. The session is the Python client with its leases, including its threads and its reports. CPU is the sum
over the client, the sidecar and Valkey.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.batch import KEY, Cost, Frames, PerFrame, batches, make_frames
from bench.lease import leased
from bench.servers import channel_to, cpu_seconds
from handcounter.client import RateLimiter
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

try:
    import limits
    import pyrate_limiter
    import throttled
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}: pip install limits==5.8.0 throttled-py==3.5.0 pyrate-limiter==4.5.1")

FPS = 2
BATCHES = (32, 64, 256)
MEASURE = "HGET per frame"
Decide = Callable[[Frames], int]


def by_limits(url: str) -> Decide:
    """Uses `limits`: a fixed window, one INCR."""
    limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.RedisStorage(url))
    item = limits.RateLimitItemPerSecond(FPS)
    return lambda frames: sum(limiter.hit(item, name) for name, _ in frames)


def by_throttled(url: str) -> Decide:
    """Uses `throttled-py`: GCRA in a Lua script."""
    limiter = throttled.Throttled(
        using="gcra", quota=throttled.per_sec(FPS, burst=1), store=throttled.RedisStore(server=url)
    )
    return lambda frames: sum(not limiter.limit(name).limited for name, _ in frames)


def by_pyrate(client: redis.Redis, names: Iterator[str]) -> Decide:
    """Uses `pyrate-limiter`: a sliding log per stream in a Lua script."""
    rates = [pyrate_limiter.Rate(FPS, pyrate_limiter.Duration.SECOND)]
    limiters = {
        name: pyrate_limiter.Limiter(pyrate_limiter.RedisBucket.init(rates, client, f"pyrate:{name}")) for name in names
    }
    return lambda frames: sum(limiters[name].try_acquire(name, blocking=False) for name, _ in frames)


def by_unary(stub: rate_limit_pb2_grpc.RateLimitServiceStub) -> Decide:
    """Asks the sidecar, one call per frame."""
    return lambda frames: sum(
        stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=name, ts=ts)).should_process for name, ts in frames
    )


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=2048, help="per round and side")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=FPS) as sidecar,
        channel_to(sidecar.address) as channel,
    ):
        client.hset(KEY, mapping={f"camera-{number:04}": str(FPS) for number in range(0, options.streams, 2)})
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        decided: Counter[str] = Counter()
        limiter = RateLimiter(
            sidecar.address,
            default_fps=FPS,
            deadline=10.0,
            on_decided=lambda by, frames: decided.update({by: frames}),
        )
        assert limiter.wait_ready(10.0)
        sides: dict[str, Decide] = {
            MEASURE: PerFrame(client, FPS).decide,
            "limits": by_limits(server.url),
            "throttled-py": by_throttled(server.url),
            "pyrate-limiter": by_pyrate(client, (f"camera-{number:04}" for number in range(options.streams))),
            "sidecar, unary": by_unary(stub),
            **{f"sidecar, batches of {size}": batches(stub, size) for size in BATCHES},
            "session, frame by frame": leased(limiter, 1),
            **{f"session, batches of {size}": leased(limiter, size) for size in BATCHES},
        }
        pids = (os.getpid(), sidecar.pid, server.pid)
        costs: dict[str, list[Cost]] = {side: [] for side in sides}
        for number in range(options.rounds + 1):
            for place, (side, decide) in enumerate(sides.items()):
                # Each side has its own stretch of stream time, so that its frames are new to everybody.
                frames = make_frames(options.frames, options.streams, number * len(sides) + place)
                cpu, wall = sum(map(cpu_seconds, pids)), time.perf_counter()
                assert number or decide(frames) > 0
                if number:
                    decide(frames)
                    wall, cpu = time.perf_counter() - wall, sum(map(cpu_seconds, pids)) - cpu
                    costs[side].append(Cost(wall / len(frames) * 1e6, cpu / len(frames) * 1e6))
        assert not decided["local"]
        by_lease = decided["lease"] / decided.total()
        limiter.close()
    medians = {side: Cost(*map(statistics.median, zip(*each, strict=True))) for side, each in costs.items()}
    ratios = {
        side: statistics.median(ours.wall / theirs.wall for ours, theirs in zip(each, costs[MEASURE], strict=True))
        for side, each in costs.items()
    }
    print(f"{options.streams} streams, {options.frames} frames a round, median of {options.rounds} rounds; ", end="")
    print(f"{by_lease:.1%} of the session's frames were denied by a lease")
    print(f"{'':28}{'wall µs':>10}{'CPU µs':>10}{'times an HGET':>16}")
    for side, cost in medians.items():
        print(f"{side:28}{cost.wall:10.2f}{cost.cpu:10.2f}{ratios[side]:16.2f}")
    print(
        json.dumps(
            {
                "bench": "others",
                "ratios": ratios,
                "by_lease": by_lease,
                **{side: cost._asdict() for side, cost in medians.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
