"""The cost of a ShouldProcess call, compared with a call that does nothing.

    python -m bench.unary

Two servers of the same kind (grpc.aio, one process each): the sidecar with a real Valkey, and one whose handler returns
an empty message. One client calls them in turns, over many short rounds, so that whatever else the machine does falls on
both; the results are medians. CPU is that of the server.
"""

import argparse
import json
import statistics
import time
from typing import NamedTuple

from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.servers import channel_to, cpu_seconds, empty_server
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

GOAL = 1.15
STREAMS = 32


class Cost(NamedTuple):
    """Microseconds per call, of the server's CPU and of wall time."""

    cpu: float
    p50: float


def measure(stub: rate_limit_pb2_grpc.RateLimitServiceStub, pid: int, calls: int, start: int) -> Cost:
    """Makes calls one after the other, each for the next frame of one of the streams."""
    times = []
    cpu = cpu_seconds(pid)
    for number in range(start, start + calls):
        request = pb.ShouldProcessRequest(
            stream_name=f"camera-{number % STREAMS:04}", ts=1.7e9 + number // STREAMS / 30
        )
        before = time.perf_counter()
        stub.ShouldProcess(request)
        times.append(time.perf_counter() - before)
    return Cost((cpu_seconds(pid) - cpu) / calls * 1e6, statistics.median(times) * 1e6)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=200, help="per round and server")
    parser.add_argument("--rounds", type=int, default=81)
    options = parser.parse_args()
    with (
        valkey() as server,
        sidecar_process(redis_url=server.url, fps=2) as sidecar,
        empty_server() as (empty_pid, empty_address),
        channel_to(sidecar.address) as sidecar_channel,
        channel_to(empty_address) as empty_channel,
    ):
        sides = {
            "empty handler": (rate_limit_pb2_grpc.RateLimitServiceStub(empty_channel), empty_pid),
            "ShouldProcess": (rate_limit_pb2_grpc.RateLimitServiceStub(sidecar_channel), sidecar.pid),
        }
        for stub, pid in sides.values():
            measure(stub, pid, options.calls, 0)
        costs: dict[str, list[Cost]] = {side: [] for side in sides}
        for number in range(1, options.rounds + 1):
            for side, (stub, pid) in sides.items():
                costs[side].append(measure(stub, pid, options.calls, number * options.calls))
    medians = {side: Cost(*map(statistics.median, zip(*each, strict=True))) for side, each in costs.items()}
    ratios = [
        Cost(ours.cpu / empty.cpu, ours.p50 / empty.p50)
        for ours, empty in zip(costs["ShouldProcess"], costs["empty handler"], strict=True)
    ]
    ratio = Cost(*map(statistics.median, zip(*ratios, strict=True)))
    print(f"{STREAMS} streams, {options.calls} calls a round, median of {options.rounds} rounds")
    print(f"{'':16}{'server CPU µs':>16}{'p50 µs':>10}")
    for side, cost in medians.items():
        print(f"{side:16}{cost.cpu:16.1f}{cost.p50:10.1f}")
    print(f"{'ratio':16}{ratio.cpu:16.3f}{ratio.p50:10.3f}")
    print(f"goal: both ratios at most {GOAL}: {'met' if max(ratio) <= GOAL else 'MISSED'}")
    print(json.dumps({"bench": "unary", **{s: c._asdict() for s, c in medians.items()}, "ratio": ratio._asdict()}))


if __name__ == "__main__":
    main()
