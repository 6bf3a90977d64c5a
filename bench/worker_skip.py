"""The cost of a skipped frame at the worker, end to end: read, check, decide by lease or call, acknowledge.

    python -m bench.worker_skip

In one run, with a real Valkey and a real sidecar on this machine, the worker's reader drains a queue of frames
whose streams are paused. As lower bounds, a plain redis-py client and the worker's own scripts read and acknowledge the same
queue without decisions. Prints wall time per frame, and CPU time of the worker's process.
"""

import argparse
import json
import queue as queues
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import redis
from support.processes.sidecars import sidecar_process
from support.redis.valkey import valkey

from bench.pipeline_options import pipeline_options
from handcounter.client import RateLimiter
from worker.metrics import Metrics
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.reader import Reader
from worker.pipeline.stream_stats import StreamStats
from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.delivery import Settled, Skipped
from worker.queue.frame import SkipReason, encode_entry
from worker.queue.held import Held
from worker.queue.keys import CONSUMER_GROUP, Keys
from worker.queue.redis_client import connect

KEYS = Keys()
GOAL_US = 20.0


class Cost(NamedTuple):
    """Microseconds per frame."""

    wall: float
    cpu: float


def fill(client: redis.Redis, frames: int, streams: int) -> None:
    """Empties Redis and adds frames of many streams to the queue."""
    client.flushall()
    client.hset("stream_fps_configs", "*", "0")
    pipeline = client.pipeline(transaction=False)
    for i in range(frames):
        key = KEYS.payload(f"{i:032x}")
        entry: dict[Any, Any] = {**encode_entry(f"camera-{i % streams:04}", 1.7e9 + i // streams / 30, key)}
        pipeline.xadd(KEYS.frames, entry)
    pipeline.execute()


def measure(step: Callable[[], None], frames: int) -> Cost:
    """Times one pass over the queue."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return Cost((time.perf_counter() - wall) / frames * 1e6, (time.process_time() - cpu) / frames * 1e6)


def plain(client: redis.Redis, batch: int) -> None:
    """Runs only XREADGROUP and XACK."""
    client.xgroup_create(KEYS.frames, CONSUMER_GROUP, id="0")
    while reply := _read(client, batch):
        client.xack(KEYS.frames, CONSUMER_GROUP, *[entry_id for entry_id, _ in reply[0][1]])


def _read(client: redis.Redis, batch: int) -> Any:
    return client.xreadgroup(CONSUMER_GROUP, "plain", {KEYS.frames: ">"}, count=batch)


def scripts(url: str, batch: int, keep_payloads: bool = False) -> None:
    """Runs the worker's scripts, which include the accounting."""
    queue = Queue(Commands(connect(url), KEYS), "scripts", keep_payloads=keep_payloads)
    while deliveries := queue.read(batch):
        queue.skip([Skipped(each.entry_id, SkipReason.PAUSED, "", each.fields[b"frame_key"]) for each in deliveries])
    queue.close()


def reader(url: str, limiter: RateLimiter, batch: int) -> None:
    """Runs the worker's reader, with a decision per batch."""
    queue = Queue(Commands(connect(url), KEYS), "reader")
    metrics, settled = Metrics(), queues.SimpleQueue[Settled | None]()
    Reader(
        queue,
        limiter,
        Held(),
        Dispatcher(queue, settled.put, metrics, threads=2, max_age=float("inf")),
        settled,
        metrics,
        StreamStats(1000, queue.now),
        threading.Event(),
        pipeline_options(batch_size=batch, max_age=float("inf"), drain=True),
    ).run()
    queue.close()


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=30_000, help="per round")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with valkey() as server, sidecar_process(redis_url=server.url) as sidecar:
        client = redis.Redis(port=server.port)
        decided: list[tuple[str, int]] = []
        limiter = RateLimiter(
            sidecar.address, default_fps=1.0, deadline=10.0, on_decided=lambda by, n: decided.append((by, n))
        )
        assert limiter.wait_ready(10.0)
        ways: dict[str, Callable[[], None]] = {
            "redis-py: XREADGROUP, XACK": lambda: plain(client, options.batch_size),
            "worker's scripts: read, skip": lambda: scripts(server.url, options.batch_size),
            "the same, keeping pictures": lambda: scripts(server.url, options.batch_size, keep_payloads=True),
            "worker: read, decide, skip": lambda: reader(server.url, limiter, options.batch_size),
        }
        costs: dict[str, list[Cost]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, step in ways.items():
                fill(client, options.frames, options.streams)
                costs[way].append(measure(step, options.frames))
        assert client.hget(KEYS.accounting, "skipped:paused") == str(options.frames).encode()
        by_whom = Counter[str]()
        for by, number in decided:
            by_whom[by] += number
        assert set(by_whom) <= {"sidecar", "lease"}  # never paced locally
        limiter.close()
        client.close()
    medians = {way: Cost(*map(statistics.median, zip(*each, strict=True))) for way, each in costs.items()}
    print(f"{options.streams} paused streams, batches of {options.batch_size}, median of {options.rounds} rounds")
    print(f"{'':32}{'wall µs/frame':>14}{'CPU µs/frame':>14}")
    for way, cost in medians.items():
        print(f"{way:32}{cost.wall:14.1f}{cost.cpu:14.1f}")
    print(f"decided by a lease, without a call: {by_whom['lease'] / by_whom.total():.0%}")
    skipped = medians["worker: read, decide, skip"].wall
    print(f"goal: a skipped frame takes at most {GOAL_US:.0f} µs: {'met' if skipped <= GOAL_US else 'MISSED'}")
    print(json.dumps({"bench": "worker_skip", **{way: cost._asdict() for way, cost in medians.items()}}))


if __name__ == "__main__":
    main()
