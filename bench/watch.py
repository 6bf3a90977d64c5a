"""How soon a change in Redis is told to those who watch limits: the time from sending HSET to the message that has it.

    python -m bench.watch

With a real Valkey and a real sidecar. The limit that is set is the time at which it is sent, so that whoever is told it knows
how long that took. Two kinds of watchers: publishers, each of which watches one of the streams, and consoles, each of which
watches all of them. Watchers and sidecar share this machine, so with many consoles the figures are those of a machine
that is too small; the table says what the sidecar's CPU was.

With --depth the watchers watch the last of so many sidecars in a row, of which only the first one follows Redis.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from typing import Any, NamedTuple

import grpc
import redis
from support.processes.programs import repository_environment
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey
from support.waiting import until

from bench.servers import cpu_seconds
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

KEY = "stream_fps_configs"
METHOD = "/handcounter.ratelimit.v1.RateLimitService/WatchLimits"
GOAL_MS = 50.0
PER_CONNECTION = 20
"""Watchers that share a connection."""
TIMED = 50
"""Watchers whose messages are looked at; the others' are only counted, so that the bench itself isn't what is slow."""


class Case(NamedTuple):
    """Watchers of one kind."""

    kind: str
    watchers: int
    watched: int
    """Streams that each of them watches."""


class Outcome(NamedTuple):
    """What was measured."""

    told_per_s: float
    """Messages to all watchers."""
    p50_ms: float
    p99_ms: float
    sidecar_cpu: float
    """CPUs."""


def change_limits(port: int, streams: int, per_s: float, seconds: float) -> None:
    """Sets the limits of the streams in turn, each to the present time."""
    client, begun = redis.Redis(port=port), time.monotonic()
    for number in range(int(per_s * seconds)):
        time.sleep(max(0.0, begun + number / per_s - time.monotonic()))
        client.hset(KEY, f"cam{number % streams}", repr(time.monotonic()))


async def watch(channel: Any, names: list[str], times: list[float] | None, counts: list[int]) -> None:
    """Watches until it is cancelled. After the first message the time of each change is added."""
    call = channel.stream_stream(METHOD)()
    await call.write(pb.WatchLimitsRequest(stream_names=names).SerializeToString())
    await call.read()
    counts[0] += 1
    while (message := await call.read()) is not grpc.aio.EOF:
        counts[1] += 1
        if times is not None:
            now = time.monotonic()
            times += [(now - limit.fps) * 1e3 for limit in pb.WatchLimitsResponse.FromString(message).limits]


async def measure(address: str, pid: int, port: int, case: Case, streams: int, per_s: float, seconds: float) -> Outcome:
    """Runs one case."""
    names = [f"cam{number}" for number in range(streams)]
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(-(-case.watchers // PER_CONNECTION))]
    times: list[float] = []
    counts = [0, 0]
    step = max(1, case.watchers // TIMED)
    tasks = [
        asyncio.create_task(
            watch(
                channels[number // PER_CONNECTION],
                names if case.watched == streams else [names[number % streams]],
                times if number % step == 0 else None,
                counts,
            )
        )
        for number in range(case.watchers)
    ]
    await until(lambda: counts[0] == case.watchers, "all watchers were told")
    command = [sys.executable, "-m", "bench.watch", "--change", str(port)]
    rates = ["--streams", str(streams), "--changes", str(per_s), "--seconds", str(seconds)]
    cpu, begun, before = cpu_seconds(pid), time.monotonic(), counts[1]
    setter = await asyncio.create_subprocess_exec(*command, *rates, env=repository_environment())
    await setter.wait()
    elapsed = time.monotonic() - begun
    cpu, told = cpu_seconds(pid) - cpu, counts[1] - before
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close()
    return Outcome(told / elapsed, statistics.median(times), statistics.quantiles(times, n=100)[98], cpu / elapsed)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--changes", type=float, default=200.0, help="HSETs a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--consoles", type=int, nargs="*", default=[10, 100, 1000], help="watchers of all streams")
    parser.add_argument("--depth", type=int, default=1, help="sidecars between Redis and the watchers")
    parser.add_argument("--change", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.change:
        change_limits(options.change, options.streams, options.changes, options.seconds)
        return
    cases = [Case("publishers", options.watchers, 1)]
    cases += [Case("consoles", number, options.streams) for number in options.consoles]
    most = max(case.watchers for case in cases)
    outcomes = {}
    places = ("--max-watchers", str(2 * most), "--max-concurrent-calls", str(2 * most + 10))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(valkey())
        sidecar = stack.enter_context(sidecar_process(*places, redis_url=server.url, fresh=True))
        for _ in range(options.depth - 1):
            above = ("--limits-from", sidecar.address)
            sidecar = stack.enter_context(sidecar_process(*places, *above, fresh=True))
        for case in cases:
            outcomes[case] = asyncio.run(
                measure(
                    sidecar.address, sidecar.pid, server.port, case, options.streams, options.changes, options.seconds
                )
            )
    print(f"{options.streams} streams, {options.changes:g} HSETs a second, {options.depth} sidecars in a row")
    print(f"{'':12}{'watchers':>9}{'watch':>7}{'messages/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'sidecar CPU':>13}")
    for case, outcome in outcomes.items():
        told, p50, p99, cpu = outcome
        print(f"{case.kind:12}{case.watchers:9}{case.watched:7}{told:12.0f}{p50:9.1f}{p99:9.1f}{cpu:12.0%}")
    p99 = outcomes[cases[0]].p99_ms
    print(f"goal: publishers are told within {GOAL_MS:g} ms, p99: {'met' if p99 <= GOAL_MS else 'MISSED'}")
    figures = {f"{case.kind} {case.watchers}": outcome._asdict() for case, outcome in outcomes.items()}
    print(json.dumps({"bench": "watch", **figures}))


if __name__ == "__main__":
    main()
