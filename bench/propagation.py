"""How long a change in Redis takes to act: from sending HSET to the first decision at the new limit.

    python -m bench.propagation

A real Valkey, a real sidecar. A client sends HSET and then asks about frames of that stream, one call after the other,
until an answer has the new fps; so up to one call's time is part of the figure. First by itself, then with a thousand
active streams and other fields of the hash being changed two hundred times a second, for one hash after the other:
a small one, of as many fields as Redis keeps as a list; one with a field for each stream; and a large one, with a
hundred thousand fields, most of them of streams that nobody asks about.
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
"""For the median of the first, and the 99th percentile of the others."""
ACTIVE = 1000
HASHES = {"small": 511, "each": ACTIVE, "large": 100_000}
"""Fields of the hash besides the one that is timed."""
CHANGES_PER_S = 200


def field(number: int) -> str:
    """A field of the hash; the first thousand are those of the active streams."""
    return f"active-{number:04}" if number < ACTIVE else f"idle-{number:06}"


@contextlib.contextmanager
def traffic(port: int, fields: int) -> Iterator[None]:
    """Changes other fields of the hash all the time, one of the active streams' after the other."""
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
    """Times changes, milliseconds each."""
    times = []
    for number in range(first, first + changes):
        request = pb.ShouldProcessRequest(stream_name="camera", ts=float(number))
        before = time.perf_counter()
        client.hset(KEY, "camera", str(number))
        while stub.ShouldProcess(request).fps != number:
            pass
        times.append((time.perf_counter() - before) * 1e3)
        time.sleep(0.01)  # a change by itself, not in the rest that follows the reading before
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
            # A thousand at a time, or Valkey itself is what is waited for.
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
