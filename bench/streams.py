"""The cost of many streams: 100,000 compared with 10, per decision and in memory.

    python -m bench.streams

Two sidecars use one Valkey, in which half of the streams have their own limits. One client asks both in turns, over several
rounds, about frames of randomly picked streams, which is the worst order for the CPU's caches. Each stream sends 30 fps and
is limited to 2. A figure is the wall time of a complete call, divided by its decisions.

Two more cases show where the difference comes from, at the sidecar with 100,000 streams: batches of the same ten streams,
and of streams that are adjacent in memory. They do the same work as random batches; only the contents of the caches differ.

With --patterns N another sidecar has as many streams, of which the half without limits of their own get theirs from N patterns
instead of the wildcard. It is asked in turns with the one that has none.

Memory is the growth of the sidecar after 100,000 streams were admitted often enough to have all of their state. It includes
everything: the watched limits, the dicts, and the overhead of the allocator.
"""

import argparse
import contextlib
import json
import random
import statistics
import time
from collections.abc import Callable

import redis
from support.processes.sidecars import SidecarProcess, sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from bench.servers import channel_to, cpu_seconds, resident_bytes
from handcounter.pacing.limits import patterns_key
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
FEW = 10
GOAL_RATIO, GOAL_BYTES = 1.2, 900
LARGE = 256
WAYS = {"unary": 1, "batches of 64": 64, f"batches of {LARGE}": LARGE}
BIGGEST_BATCH = 4096
PICKS: dict[str, Callable[[int, int], list[int]]] = {
    "any": lambda size, batch: [random.randrange(size) for _ in range(batch)],
    "one after the other": lambda size, batch: list(range(start := random.randrange(size - batch), start + batch)),
    "the same ten": lambda _, batch: [random.randrange(FEW) for _ in range(batch)],
}
"""Which streams are asked about: maps the number of all streams and of the picked ones to the numbers of the streams."""
FILL_FRAMES = 70
"""Admitted frames of each stream before memory is read: enough to fill all marks that a stream keeps."""


class Fleet:
    """The cameras of one sidecar."""

    def __init__(self, sidecar: SidecarProcess, stub: rate_limit_pb2_grpc.RateLimitServiceStub, size: int) -> None:
        self.sidecar = sidecar
        self.size = size
        self._stub = stub
        self._frames = [0] * size

    def fill(self, rounds: int) -> None:
        """Sends frames of each stream."""
        for _ in range(rounds):
            for start in range(0, self.size, BIGGEST_BATCH):
                self._ask(*self._frames_of(list(range(start, min(start + BIGGEST_BATCH, self.size)))))

    def scatter(self) -> None:
        """Spreads the streams over their period, so that they aren't all admitted at once."""
        self._frames = [frames + random.randrange(15) for frames in self._frames]

    def measure(self, batch: int, decisions: int, pick: str = "any") -> tuple[float, float]:
        """Returns the wall time and the server's CPU time, microseconds per decision.

        The frames are built just before their call and outside of the measured time, because a worker already has them.
        """
        wall, cpu = 0.0, cpu_seconds(self.sidecar.pid)
        for _ in range(decisions // batch):
            names, tss = self._frames_of(PICKS[pick](self.size, batch))
            before = time.perf_counter()
            if batch > 1:
                self._ask(names, tss)
            else:
                self._stub.ShouldProcess(pb.ShouldProcessRequest(stream_name=names[0], ts=tss[0]))
            wall += time.perf_counter() - before
        return wall / decisions * 1e6, (cpu_seconds(self.sidecar.pid) - cpu) / decisions * 1e6

    def _frames_of(self, numbers: list[int]) -> tuple[list[str], list[float]]:
        names, tss = [], []
        for number in numbers:
            self._frames[number] += 1
            names.append(f"camera-{number:06}")
            tss.append(1.7e9 + self._frames[number] / 30)
        return names, tss

    def _ask(self, names: list[str], tss: list[float]) -> None:
        answer = self._stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=names, ts=tss))
        assert len(list(answer.should_process)) == len(names)


def with_patterns(
    stack: contextlib.ExitStack, server: Valkey, client: "redis.Redis", options: argparse.Namespace
) -> Fleet:
    """Starts a sidecar whose streams have the same limits as the others, half of them by patterns; returns its streams."""
    key, width = f"{KEY}_by_pattern", len(str(options.patterns - 1))
    heads = {f"camera-{number:06}"[: 7 + 6 - 5 + width] for number in range(options.streams)}
    fillers = (f"other-{number}-*" for number in range(options.patterns))
    patterns = [*(f"{head}*" for head in sorted(heads)[: options.patterns]), *fillers][: options.patterns]
    client.hset(patterns_key(key), mapping=dict.fromkeys(patterns, "2"))
    client.hset(key, mapping={f"camera-{number:06}": "2" for number in range(0, options.streams, 2)})
    flags = ("--max-streams", str(options.streams), "--config-key", key)
    sidecar = stack.enter_context(sidecar_process(*flags, redis_url=server.url, fps=2))
    stub = rate_limit_pb2_grpc.RateLimitServiceStub(stack.enter_context(channel_to(sidecar.address)))
    fleet = Fleet(sidecar, stub, options.streams)
    fleet.fill(1)
    listed = stub.ListStreams(pb.ListStreamsRequest(page_size=1000)).streams
    matched = sum(stream.fps_source == pb.FPS_SOURCE_PATTERN for stream in listed)
    print(f"{matched} of the first {len(listed)} streams have a limit by pattern")
    fleet.scatter()
    fleet.fill(1)
    return fleet


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument(
        "--decisions", type=int, default=16_384, help="per round and side in batches; a tenth of it in unary calls"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--patterns", type=int, default=0, help="also compare with so many patterns, at most 1000")
    options = parser.parse_args()
    with (
        contextlib.ExitStack() as stack,
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url, fps=2) as few_sidecar,
        sidecar_process("--max-streams", str(options.streams), redis_url=server.url, fps=2) as many_sidecar,
        channel_to(few_sidecar.address) as few_channel,
        channel_to(many_sidecar.address) as many_channel,
    ):
        few = Fleet(few_sidecar, rate_limit_pb2_grpc.RateLimitServiceStub(few_channel), FEW)
        many = Fleet(many_sidecar, rate_limit_pb2_grpc.RateLimitServiceStub(many_channel), options.streams)
        Fleet(many_sidecar, rate_limit_pb2_grpc.RateLimitServiceStub(many_channel), FEW).fill(1000)
        empty = resident_bytes(many_sidecar.pid)
        client.hset(KEY, mapping={f"camera-{number:06}": "inf" for number in range(0, options.streams, 2)})
        client.hset(KEY, "*", "inf")
        for fleet in (few, many):
            fleet.fill(FILL_FRAMES)
        bytes_per_stream = (resident_bytes(many_sidecar.pid) - empty) / options.streams
        client.hset(KEY, mapping={f"camera-{number:06}": "2" for number in range(0, options.streams, 2)})
        client.hset(KEY, "*", "2")
        patterned = with_patterns(stack, server, client, options) if options.patterns else None
        settle = rate_limit_pb2_grpc.RateLimitServiceStub(many_channel)
        last = pb.ShouldProcessRequest(stream_name=f"camera-{options.streams // 2 * 2 - 2:06}", ts=1.0)
        wait_until(lambda: settle.ShouldProcess(last).fps == 2.0, "the limits to be read")
        for fleet in (few, many):
            fleet.scatter()
            fleet.fill(1)
        times: dict[str, dict[int, list[tuple[float, float]]]] = {way: {few.size: [], many.size: []} for way in WAYS}
        by_patterns: dict[str, list[float]] = {way: [] for way in WAYS}
        by_pick: dict[str, list[tuple[float, float]]] = {pick: [] for pick in PICKS}
        for number in range(options.rounds + 1):
            for way, batch in WAYS.items():
                for fleet in (few, many):
                    cost = fleet.measure(batch, options.decisions if batch > 1 else options.decisions // 10)
                    if number:
                        times[way][fleet.size].append(cost)
            if patterned is not None:
                for way, batch in WAYS.items():
                    decisions = options.decisions if batch > 1 else options.decisions // 10
                    sides = [many, patterned] if number % 2 else [patterned, many]
                    cpu = {side: side.measure(batch, decisions)[1] for side in sides}
                    if number:
                        by_patterns[way].append(cpu[patterned] / cpu[many])
            for pick, costs in by_pick.items():
                costs.append(many.measure(LARGE, options.decisions, pick))
    medians = {
        way: {size: tuple(map(statistics.median, zip(*costs, strict=True))) for size, costs in sides.items()}
        for way, sides in times.items()
    }
    ratios = {
        way: statistics.median(many_cost[0] / few_cost[0] for few_cost, many_cost in zip(*sides.values(), strict=True))
        for way, sides in times.items()
    }
    print(f"per decision, wall (server CPU) µs, streams at random, median of {options.rounds} rounds")
    print(f"{'':16}" + "".join(f"{size:>11} streams" for size in (few.size, many.size)) + f"{'ratio':>8}")
    for way, sides in medians.items():
        cells = "".join(f"{wall:10.2f} ({cpu:6.2f})" for wall, cpu in sides.values())
        print(f"{way:16}{cells}{ratios[way]:8.2f}")
    picks = {pick: statistics.median(cpu for _, cpu in costs) for pick, costs in by_pick.items()}
    print(f"server CPU µs in batches of {LARGE}, by which of {options.streams:,} streams are asked about: ", end="")
    print(", ".join(f"{pick} {cpu:.2f}" for pick, cpu in picks.items()))
    pattern_ratios = {way: statistics.median(ratios) for way, ratios in by_patterns.items() if ratios}
    if pattern_ratios:
        print(f"with {options.patterns} patterns, server CPU, compared with none, median: ", end="")
        print(", ".join(f"{way} {ratio:.3f}" for way, ratio in pattern_ratios.items()))
    print(f"memory: {bytes_per_stream:.0f} bytes per stream")
    print(f"goal: at most {GOAL_RATIO} times the time per decision: ", end="")
    print(", ".join(f"{way} {'met' if ratio <= GOAL_RATIO else 'MISSED'}" for way, ratio in ratios.items()))
    print(f"goal: at most {GOAL_BYTES} bytes per stream: {'met' if bytes_per_stream <= GOAL_BYTES else 'MISSED'}")
    print(
        json.dumps(
            {
                "bench": "streams",
                "picks_cpu_us": picks,
                "ratios": ratios,
                "pattern_ratios": pattern_ratios,
                "bytes_per_stream": bytes_per_stream,
                "us": medians,
            }
        )
    )


if __name__ == "__main__":
    main()
