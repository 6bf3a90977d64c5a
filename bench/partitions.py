"""What partitions cost: reading and settling many of them, and waiting for entries in all of them.

    python -m bench.partitions

On a real cluster of three nodes on this machine. Reading and settling: the worker's way, one round trip to each node, beside
one partition after the other. Waiting: the worker's way, a thread that blocks on each partition, beside asking all of them
every 20 ms; CPU time of this process and of the nodes while nothing comes, and the time from adding an entry until it is read.
"""

import argparse
import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support.partitioned import PartitionedFrames
from support.redis.topologies import Cluster, cluster

from worker.queue.delivery import Delivery, Skipped
from worker.queue.exchange import Request, exchange
from worker.queue.frame import SkipReason, encode_entry
from worker.queue.open_queue import open_queue
from worker.queue.partitioned import PartitionedQueue

POLL_S = 0.02


def fill(frames: PartitionedFrames, entries: int) -> None:
    """Adds so many entries to the queue, in turns to its partitions."""
    for i, keys in enumerate(frames.partitions):
        pipeline = frames.client(keys).pipeline(transaction=False)
        for j in range(entries // frames.partitions.number):
            pipeline.xadd(keys.frames, encode_entry(f"cam{i}", 1000.0 + j, keys.payload(str(j))))  # type: ignore[arg-type]
        pipeline.execute()


def skips(deliveries: list[Delivery]) -> list[Skipped]:
    """Returns what settles deliveries."""
    return [Skipped(each.entry_id, SkipReason.STALE, "", each.fields[b"frame_key"]) for each in deliveries]


def together(queue: PartitionedQueue, batch: int) -> None:
    """Reads and skips everything as the worker does."""
    while deliveries := queue.read(batch):
        queue.skip(skips(deliveries), [])


def one_by_one(queue: PartitionedQueue, batch: int) -> None:
    """Reads and skips everything, one partition after the other in each turn."""
    each = max(1, batch // len(queue.parts))
    while [part.skip(skips(deliveries)) for part in queue.parts if (deliveries := part.read(each))]:
        pass


def cpu_of(nodes: Cluster) -> float:
    """Returns the CPU time of all nodes so far, seconds."""
    ticks = 0
    for node in nodes.nodes:
        words = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / 100.0


@contextlib.contextmanager
def blocking(queue: PartitionedQueue, got: Callable[[], None]) -> Iterator[None]:
    """Waits and reads as the worker does."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            if queue.read(256):
                got()
            else:
                queue.wait(0.5)

    with running(run, stop):
        yield


@contextlib.contextmanager
def polling(queue: PartitionedQueue, got: Callable[[], None]) -> Iterator[None]:
    """Asks all partitions every 20 ms, in one round trip to each node, and reads those with news."""
    stop = threading.Event()
    last = dict.fromkeys(queue.parts, b"0-0")

    def run() -> None:
        while not stop.wait(POLL_S):
            requests = [
                Request(part.commands.client, ("XREAD", "COUNT", 1, "STREAMS", part.keys.frames, last[part]))
                for part in queue.parts
            ]
            for part, reply in zip(queue.parts, exchange(requests), strict=True):
                if reply:
                    for each in part.read(256):
                        last[part] = each.entry_id.partition("@")[0].encode()
                    got()

    with running(run, stop):
        yield


@contextlib.contextmanager
def running(run: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Runs a thread."""
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--partitions", type=int, default=64)
    parser.add_argument("--entries", type=int, default=20_000, help="per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-seconds", type=float, default=5.0)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with cluster() as nodes, contextlib.closing(PartitionedFrames(nodes.url, options.partitions)) as frames:
        every = range(options.partitions)

        def opened(*, drain: bool) -> PartitionedQueue:
            queue = open_queue(frames.connections, frames.partitions, every, "bench", drain=drain)
            assert isinstance(queue, PartitionedQueue)
            return queue

        costs: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for way, step in (("one round trip to each node", together), ("one partition after the other", one_by_one)):
                for batch in (256, 4096):
                    fill(frames, options.entries)
                    queue = opened(drain=True)
                    started = time.perf_counter()
                    step(queue, batch)
                    costs.setdefault(f"{way}, batches of {batch}", []).append(
                        (time.perf_counter() - started) / options.entries * 1e6
                    )
        print(f"{options.partitions} partitions on 3 nodes, median of {options.rounds} rounds")
        for way, each in costs.items():
            figures[way] = statistics.median(each)
            print(f"read and skip, {way:46}{figures[way]:8.1f} µs/frame")
        for way, wait in (("blocking", blocking), ("polling", polling)):
            read = threading.Event()
            with wait(opened(drain=False), read.set):
                time.sleep(1.0)
                cpu, theirs = time.process_time(), cpu_of(nodes)
                time.sleep(options.idle_seconds)
                own = (time.process_time() - cpu) / options.idle_seconds
                redis = (cpu_of(nodes) - theirs) / options.idle_seconds
                delays = []
                for i in range(100):
                    keys = frames.partitions.keys(i % options.partitions)
                    read.clear()
                    started = time.perf_counter()
                    frames.client(keys).xadd(keys.frames, {"stream_name": "cam"})
                    read.wait(10.0)
                    delays.append(time.perf_counter() - started)
                    time.sleep(0.01)
            figures |= {f"{way}: own CPU": own, f"{way}: nodes' CPU": redis, f"{way}: delay": statistics.median(delays)}
            print(
                f"waiting, {way:10} CPU of the worker {own:6.2%}, of the three nodes {redis:6.2%} of a core; "
                f"an entry is read after {statistics.median(delays) * 1e3:.1f} ms"
            )
    print(json.dumps({"bench": "partitions", "partitions": options.partitions, **figures}))


if __name__ == "__main__":
    main()
