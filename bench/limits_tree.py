"""How a change of a limit reaches a thousand sidecars: measured on a few, computed for many.

    python -m bench.limits_tree

The costs are measured on this machine, on real processes: a Valkey with many tracking connections, readings of few and of many
streams, a sidecar with watchers, and sidecars in a row, of which the first follows Redis. From them bench/tree_model.py
computes, for a thousand sidecars and more, when the last one has a change, how many messages that takes and what Redis has
to do: if all of them follow Redis, and in trees ("8 of 32": 8 trees, in which at most 32
follow the same one). The row of three is measured as well as computed, to check the model.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable

import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

from bench.servers import cpu_seconds
from bench.tree_model import FIELDS_PER_COMMAND, Costs, Outcome, change_of_all, change_of_one, depth, without_tree
from handcounter.client import LimitsWatch

KEY = "stream_fps_configs"
FIELDS = 100_000
TRACKING = 100
WATCHERS = 32
ROW = 3
READ = 20_000
"""Streams that a sidecar reads, to see what that adds to a change."""
EVERY_S = 0.0002


def redis_costs(server: Valkey, client: "redis.Redis", changes: int) -> tuple[float, float, float]:
    """Returns Redis' CPU for a push to one connection, for a command that reads fields, and for each field, seconds."""
    for start in range(0, FIELDS, 10_000):
        client.hset(KEY, mapping={f"camera-{number:06}": "1" for number in range(start, start + 10_000)})
    names = [f"camera-{number * 195:06}" for number in range(FIELDS_PER_COMMAND)]

    def reading(fields: int) -> float:
        begun = cpu_seconds(server.pid)
        for _ in range(changes):
            client.hmget(KEY, names[:fields])
        return (cpu_seconds(server.pid) - begun) / changes

    few, many = reading(1), reading(len(names))

    def hset() -> float:
        begun = cpu_seconds(server.pid)
        for number in range(changes):
            client.hset(KEY, "camera-000001", repr(float(number)))
        return (cpu_seconds(server.pid) - begun) / changes

    alone = hset()
    with contextlib.ExitStack() as stack:
        for _ in range(TRACKING):
            connection = redis.Connection(port=server.port, protocol=3)
            connection.connect()
            stack.callback(connection.disconnect)
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", KEY)
            connection.read_response()
        pushed = hset()
    field_s = max(0.0, many - few) / (len(names) - 1)
    return max(0.0, pushed - alone) / TRACKING, few - field_s, field_s


def told_after(client: "redis.Redis", watch: LimitsWatch, name: str, changes: int, pause_s: float = 0.01) -> float:
    """Returns the time from HSET until a watcher has the limit, seconds, the median; about 0.1 ms of it is the watcher's."""
    watch.watch(name)
    if not watch.wait_told(60.0):
        raise RuntimeError("the limit wasn't told")
    times = []
    for number in range(changes):
        fps, begun = 1.0 + number / 1000.0, time.monotonic()
        client.hset(KEY, name, repr(fps))

        def told(fps: float = fps) -> bool:
            limit = watch.limit(name)
            return limit is not None and limit.fps == fps

        wait_until(told, "the change is told", every_s=EVERY_S)
        times.append(time.monotonic() - begun)
        time.sleep(pause_s)  # a sidecar rests after each reading, the longer the longer that took
    return statistics.median(times)


def measure(changes: int) -> tuple[Costs, float]:
    """Returns the costs, and the time until the last one of a row of sidecars has told a change, seconds."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(valkey())
        client = stack.enter_context(server.client())
        push_s, command_s, field_s = redis_costs(server, client, changes)
        row = [stack.enter_context(sidecar_process(redis_url=server.url, fresh=True))]
        for _ in range(1, ROW):
            row.append(stack.enter_context(sidecar_process("--limits-from", row[-1].address, fresh=True)))
        first_s, last_s = (
            told_after(client, stack.enter_context(LimitsWatch(sidecar.address)), "camera-090001", changes)
            for sidecar in (row[0], row[-1])
        )
        watches = [stack.enter_context(LimitsWatch(row[0].address)) for _ in range(WATCHERS)]
        for watch in watches:
            watch.watch("camera-000008")
            watch.wait_told(60.0)

        def wildcard(field: str) -> float:
            begun = cpu_seconds(row[0].pid)
            for number in range(changes):
                client.hset(KEY, field, repr(2.0 + number / 1000.0))
                time.sleep(0.01)
            return (cpu_seconds(row[0].pid) - begun) / changes

        tell_s = max(1e-6, (wildcard("camera-000008") - wildcard("camera-000009")) / WATCHERS)
        # A row's change takes a hop and a message for each sidecar after the first.
        hop_s = max(0.0, (last_s - first_s) / (ROW - 1) - tell_s)
        many = stack.enter_context(LimitsWatch(row[0].address))
        for number in range(READ):
            many.watch(f"camera-{number:06}")
        if not many.wait_told(60.0):
            raise RuntimeError("the limits weren't told")
        # Streams are read in the order in which they came, so this one is read last.
        watch = stack.enter_context(LimitsWatch(row[0].address))
        many_s = told_after(client, watch, "camera-090002", max(5, changes // 10), 0.3)
        stream_s = max(0.0, many_s - first_s) / READ
        return Costs(first_s - tell_s, stream_s, push_s, command_s, field_s, tell_s, hop_s), last_s


def main() -> None:
    """Prints the costs, a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sidecars", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--fan-out", type=int, nargs="+", default=[32])
    parser.add_argument("--trees", type=int, nargs="+", default=[1, 8], help="into which the sidecars are divided")
    parser.add_argument("--streams", type=int, default=100, help="of each sidecar")
    parser.add_argument("--changes", type=int, default=300)
    options = parser.parse_args()
    costs, last_s = measure(options.changes)
    redis_us = [value * 1e6 for value in (costs.push_s, costs.command_s, costs.field_s)]
    print(f"measured with {options.changes} changes, {os.cpu_count()} processors:")
    print(
        "  Redis' CPU: a push {:.1f} µs, a command that reads {:.1f} µs, each of its fields {:.2f} µs".format(*redis_us)
    )
    print(f"  a sidecar's CPU: a message to a watcher {costs.tell_s * 1e6:.0f} µs")
    print(f"  HSET to a sidecar that follows Redis: {costs.change_s * 1e3:.1f} ms, ", end="")
    print(f"and {costs.stream_s * 1e6:.2f} µs for each stream that it reads; a hop {costs.hop_s * 1e3:.2f} ms")
    computed_s = change_of_one(ROW, 0, 1, costs).last_s + costs.tell_s
    print(f"  {ROW} in a row: measured {last_s * 1e3:.1f} ms, computed {computed_s * 1e3:.1f} ms")
    print(f"computed, with {options.streams} streams at each sidecar:")
    heads = ("sidecars", "way", "change of", "levels", "last, ms", "messages", "Redis, ms", "most/s")
    print("".join(f"{head:>13}" for head in heads))
    rows: dict[str, Outcome] = {}
    streams = options.streams
    ways: list[tuple[str, str, Callable[[int], Outcome], Callable[[int], int]]] = [
        ("Redis", "any", lambda number: without_tree(number, streams, costs), lambda _number: 0)
    ]
    for fan_out, trees in itertools.product(options.fan_out, options.trees):
        name = f"{trees} of {fan_out}"

        def levels(number: int, fan_out: int = fan_out, trees: int = trees) -> int:
            return depth(-(-number // trees), fan_out)

        def of_one(number: int, fan_out: int = fan_out, trees: int = trees) -> Outcome:
            return change_of_one(number, streams, fan_out, costs, trees)

        def of_all(number: int, fan_out: int = fan_out, trees: int = trees) -> Outcome:
            return change_of_all(number, streams, fan_out, costs, trees)

        ways += [(name, "one", of_one, levels), (name, "all", of_all, levels)]
    for number in options.sidecars:
        for way, what, outcome_of, levels_of in ways:
            outcome = rows[f"{number} {way} {what}"] = outcome_of(number)
            cells = (
                f"{number:,}",
                way,
                what,
                f"{levels_of(number)}",
                f"{outcome.last_s * 1e3:.1f}",
                f"{outcome.messages:,}",
            )
            print(
                "".join(
                    f"{cell:>13}" for cell in (*cells, f"{outcome.redis_s * 1e3:.2f}", f"{outcome.most_per_s:,.0f}")
                )
            )
    shown = {name: outcome._asdict() | {"most_per_s": outcome.most_per_s} for name, outcome in rows.items()}
    print(json.dumps({"bench": "limits_tree", "costs": costs._asdict(), "row_s": last_s, **shown}))


if __name__ == "__main__":
    main()
