"""How soon a change in Redis takes effect: the time from sending HSET to the first decision at the new limit.

    python -m bench.propagation

With a real Valkey and a real sidecar, a client sends HSET and then asks about frames of that stream, one call after the
other, until an answer has the new fps. The figure therefore includes up to the time of one call. The first case has no other
load. In the others there are a thousand active streams, and other fields of the hash change two hundred times per second, with
three hashes: a small one, with as many fields as Redis keeps as a list; one with a field per stream; and a large one
with a hundred thousand fields, most of them for inactive streams.
"""

import argparse
import contextlib
import json
import statistics
import threading
import time
from collections.abc import Iterator

import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.servers import channel_to
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

KEY = "stream_fps_configs"
GOAL_MS = 10.0
"""For the median of the first case, and for the 99th percentile of the others."""
ACTIVE = 1000
HASHES = {"small": 511, "each": ACTIVE, "large": 100_000}
"""Fields of the hash in addition to the timed one."""
CHANGES_PER_S = 200


def field(number: int) -> str:
    """Returns the name of a field; the first thousand belong to the active streams."""
    return f"active-{number:04}" if number < ACTIVE else f"idle-{number:06}"


@contextlib.contextmanager
def traffic(port: int, fields: int) -> Iterator[None]:
    """Keeps changing other fields of the hash, those of the active streams in turn."""
    stop = threading.Event()
    changed = min(fields, ACTIVE)

    def change() -> None:
        with redis.Redis(port=port) as client:
            number = 0
            while not stop.wait(1 / CHANGES_PER_S):
                number += 1
                client.hset(KEY, field(number % changed), str(1 + number % 30))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(
    client: redis.Redis, stub: rate_limit_pb2_grpc.RateLimitServiceStub, changes: int, first: int
) -> list[float]:
    """Times several changes, milliseconds each."""
    times = []
    for number in range(first, first + changes):
        request = pb.ShouldProcessRequest(stream_name="camera", ts=float(number))
        before = time.perf_counter()
        client.hset(KEY, "camera", str(number))
        while stub.ShouldProcess(request).fps != number:
            pass
        times.append((time.perf_counter() - before) * 1e3)
        time.sleep(0.01)  # a separate change, not one within the pause after the previous reading
    return times


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--changes", type=int, default=300)
    options = parser.parse_args()
    with (
        valkey() as server,
        redis.Redis(port=server.port) as client,
        sidecar_process(redis_url=server.url) as sidecar,
        channel_to(sidecar.address) as channel,
    ):
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
        rows = {"alone": measure(client, stub, options.changes, 1)}
        stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(stream_names=[field(number) for number in range(ACTIVE)]))
        for number, (row, fields) in enumerate(HASHES.items(), 1):
            # A thousand at a time; otherwise the bench waits for Valkey.
            for first in range(0, fields, 1000):
                client.hset(KEY, mapping={field(each): "1" for each in range(first, min(fields, first + 1000))})
            with traffic(server.port, fields):
                rows[row] = measure(client, stub, options.changes, 1 + number * options.changes)
    figures = {
        row: {"p50_ms": statistics.median(times), "p99_ms": statistics.quantiles(times, n=100)[98]}
        for row, times in rows.items()
    }
    print(f"HSET to the first decision at the new limit, {options.changes} changes each")
    sizes = ", ".join(f"{row} {1 + fields:,}" for row, fields in HASHES.items())
    print(
        f"all but alone: {ACTIVE:,} active streams, {CHANGES_PER_S} other changes a second; fields of the hash: {sizes}"
    )
    print(f"{'':8}{'p50 ms':>10}{'p99 ms':>10}")
    for row, figure in figures.items():
        print(f"{row:8}{figure['p50_ms']:10.2f}{figure['p99_ms']:10.2f}")
    print(f"goal: a median under {GOAL_MS:.0f} ms: {'met' if figures['alone']['p50_ms'] < GOAL_MS else 'MISSED'}")
    worst = max(figures[row]["p99_ms"] for row in HASHES)
    print(f"goal: the others, p99 at most {GOAL_MS:.0f} ms: {'met' if worst <= GOAL_MS else 'MISSED'}")
    print(json.dumps({"bench": "propagation", **figures}))


if __name__ == "__main__":
    main()
