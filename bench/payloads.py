"""How much memory the pictures take in Redis: deleted when their frames are settled, and kept until their TTL.

    python -m bench.payloads

Cameras publish frames at their real pace, through the publisher's queue, to a real Valkey. A worker's threads settle them:
each camera is limited to one frame per second, and a detector finds its hand at once. Each variant runs for somewhat longer
than the TTL. Prints the memory of Valkey, at most and at the end, less that of an empty one.
"""

import argparse
import json
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from support.models.fake_detector import FakeDetector
from support.processes.workers import picture
from support.redis.valkey import valkey

from bench.pipeline_options import pipeline_options
from handcounter.pacing.schedule import Reason
from process.backoff import Backoff
from worker.metrics import Metrics
from worker.pipeline.pipeline import Pipeline
from worker.publish.destination import on_one_server
from worker.publish.sender import Sender
from worker.publish.source import Captured
from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.keys import Keys
from worker.queue.redis_client import connect

KEYS = Keys()
GOAL = 0.02
LIMIT_S = 1.0
OPTIONS = pipeline_options(wait_for_limits=False)


class Memory(NamedTuple):
    """Bytes of Valkey's memory, and what was done meanwhile."""

    most: int
    end: int
    published: int
    settled: int
    fps: float


class OnePerSecond:
    """Admits a frame of each stream per second of its clock."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides frames in their order."""
        return [self._decide(*frame) for frame in frames]

    def decide_known(self, frames: Sequence[tuple[str, float]]) -> list[Reason | None]:
        """Decides them likewise."""
        return [self._decide(*frame) for frame in frames]

    sidecar_unreachable = False

    def limits(self, stream_names: Sequence[str]) -> list[float | None]:
        """Returns the limit of each stream."""
        return [1.0 / LIMIT_S] * len(stream_names)

    def _decide(self, stream_name: str, ts: float) -> Reason:
        if ts < self._due.get(stream_name, 0.0):
            return Reason.TOO_SOON
        self._due[stream_name] = ts + LIMIT_S
        return Reason.ADMITTED

    def which_are_paused(self, stream_names: Sequence[str]) -> set[str]:  # noqa: ARG002
        """Returns that none is."""
        return set()

    def told_fps(self, stream_name: str) -> float | None:  # noqa: ARG002
        """Returns the limit."""
        return 1.0 / LIMIT_S


def publish(url: str, options: argparse.Namespace) -> tuple[int, float]:
    """Publishes frames of all cameras, which tick together; returns how many, and how many per second."""
    payload = picture().ljust(options.kilobytes * 1000, b"\0")
    client = connect(url)
    sender = Sender(on_one_server(client, KEYS), payload_ttl=options.ttl, max_queue=20_000, backoff=Backoff(0.05, 1.0))
    cameras = [sender.open(f"camera-{i:04}").outlet for i in range(options.cameras)]
    for camera in cameras:
        camera.live = False  # waits for Redis instead of dropping frames
    sender.start()
    began, ticks = time.monotonic(), round(options.seconds * options.fps)
    for tick in range(ticks):
        time.sleep(max(0.0, began + tick / options.fps - time.monotonic()))
        for camera in cameras:
            camera.put(Captured(1.7e9 + tick / options.fps, payload))
    for camera in cameras:
        camera.close()
        camera.done.wait()
    sender.stop(1.0)
    client.close()
    published = ticks * len(cameras)
    return published, published / (time.monotonic() - began)


def measure(options: argparse.Namespace, keep_payloads: bool) -> Memory:
    """Runs publishers and a worker on a Valkey of their own."""
    with valkey() as server, server.client() as client:

        def used() -> int:
            return int(client.info("memory")["used_memory"])

        empty, samples, done = used(), [], threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                samples.append(used())

        metrics = Metrics()
        queue = Queue(Commands(connect(server.url), KEYS), "bench", keep_payloads=keep_payloads)
        pipeline = Pipeline(queue, OnePerSecond(), [FakeDetector()], metrics, OPTIONS)
        watching = threading.Thread(target=watch)
        pipeline.start()
        watching.start()
        published, fps = publish(server.url, options)
        end = used()
        done.set()
        watching.join()
        pipeline.stop(10.0)
        queue.close()
        settled = metrics.total(metrics.counted) + metrics.total(metrics.skipped)
        return Memory(max(samples) - empty, end - empty, published, settled, fps)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, default=100)
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--kilobytes", type=int, default=50, help="of a picture")
    parser.add_argument("--ttl", type=float, default=30.0, help="of a picture, seconds")
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    rows = {
        "kept until their TTL": measure(options, keep_payloads=True),
        "deleted when settled": measure(options, keep_payloads=False),
    }
    print(f"{options.cameras} cameras, {options.fps:g} fps, {options.kilobytes} KB, TTL {options.ttl:g} s")
    print(f"{'pictures':24}{'most, MB':>10}{'end, MB':>10}{'published':>12}{'settled':>10}{'frames/s':>10}")
    for name, row in rows.items():
        print(f"{name:24}{row.most / 1e6:10.1f}{row.end / 1e6:10.1f}{row.published:12}{row.settled:10}{row.fps:10.0f}")
    kept, deleted = rows.values()
    share = deleted.most / kept.most
    print(f"memory: {share:.2%} at most, goal at most {GOAL:.0%}: {'met' if share <= GOAL else 'MISSED'}")
    print(json.dumps({"bench": "payloads", "share": share, **{name: row._asdict() for name, row in rows.items()}}))


if __name__ == "__main__":
    main()
