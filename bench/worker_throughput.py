"""Frames per second of the worker, compared with its bare detector in the same number of threads.

    python -m bench.worker_throughput

One process runs four variants in turns, over several rounds: the detector on a decoded picture; decoding and the detector;
the whole pipeline without a limit, from entries and payloads in a real Valkey to results in it; and the same without what it
shows of each stream (metrics, hashes and previews).
"""

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import redis
from support.redis.valkey import valkey

from bench.pipeline_options import pipeline_options
from handcounter.pacing.schedule import Reason
from process.cpus import cpus
from worker.download import download_progress
from worker.hands.detection import HandDetector
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, default_models_dir, ensure_models
from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.picture import Picture, decode
from worker.pipeline.pipeline import Pipeline
from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.frame import encode_entry
from worker.queue.keys import Keys
from worker.queue.redis_client import connect

KEYS = Keys()
GOAL = 0.9
OPTIONS = pipeline_options(max_age=float("inf"), wait_for_limits=False, drain=True)


SHOWING_NOTHING = dataclasses.replace(OPTIONS, metrics_streams=0, previews=False)


class Unlimited:
    """Admits every frame."""

    sidecar_unreachable = False

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Admits all of them."""
        return [Reason.ADMITTED] * len(frames)

    def decide_known(self, frames: Sequence[tuple[str, float]]) -> list[Reason | None]:
        """Admits all of them."""
        return [Reason.ADMITTED] * len(frames)

    def limits(self, stream_names: Sequence[str]) -> list[float | None]:
        """Returns that there is none."""
        return [float("inf")] * len(stream_names)

    def which_are_paused(self, stream_names: Sequence[str]) -> set[str]:  # noqa: ARG002
        """Returns that none is."""
        return set()

    def told_fps(self, stream_name: str) -> float | None:  # noqa: ARG002
        """Returns that there is none."""
        return float("inf")


def picture() -> Picture:
    """Returns a picture of 1280x720 that resembles a camera's: surfaces and sensor noise; about 100 KB as JPEG."""
    random = np.random.default_rng(7)
    surfaces = cv2.resize(random.integers(0, 255, (9, 16, 3), np.uint8), (1280, 720), interpolation=cv2.INTER_CUBIC)
    return np.clip(surfaces + random.normal(0, 4, (720, 1280, 1)), 0, 255).astype(np.uint8)


class Rate(NamedTuple):
    """Frames per second of wall time; and CPU milliseconds per frame, which other processes disturb less."""

    fps: float
    cpu_ms: float


def measure(step: Callable[[], int]) -> Rate:
    """Times a step that returns the number of its frames."""
    wall, cpu = time.perf_counter(), time.process_time()
    frames = step()
    return Rate(frames / (time.perf_counter() - wall), (time.process_time() - cpu) / frames * 1e3)


def bare(work: Sequence[Callable[[], object]], frames: int) -> int:
    """Calls one function per thread in a loop."""

    def loop(step: Callable[[], object]) -> None:
        for _ in range(frames // len(work)):
            step()

    threads = [threading.Thread(target=loop, args=(step,)) for step in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return frames // len(work) * len(work)


def fill(client: redis.Redis, jpeg: bytes, frames: int) -> None:
    """Empties Redis and adds frames to the queue, each with its own payload."""
    client.flushall()
    for i in range(frames):
        key = KEYS.payload(str(i))
        client.set(key, jpeg)
        entry: dict[Any, Any] = {**encode_entry(f"camera-{i % 8}", 1.7e9 + i, key)}
        client.xadd(KEYS.frames, entry)


def pipeline(url: str, detectors: Sequence[HandDetector], options: PipelineOptions = OPTIONS) -> int:
    """Runs the worker's threads, from the first read to the last result."""
    metrics = Metrics()
    queue = Queue(Commands(connect(url), KEYS), "bench")
    threads = Pipeline(queue, Unlimited(), detectors, metrics, options)
    threads.start()
    threads.done.wait()
    threads.stop(10.0)
    queue.close()
    return metrics.total(metrics.counted)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=120, help="per round")
    parser.add_argument("--threads", type=int, default=cpus())
    parser.add_argument("--effort", type=Effort, choices=list(Effort), default=Effort.BALANCED)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with download_progress(sys.stderr, TITLE) as progress:
        models = ensure_models(default_models_dir(), progress)
    detectors = [PalmLandmarkDetector(LiteRtEngine(models), effort=options.effort) for _ in range(options.threads)]
    image = picture()
    jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes()
    detect = [functools.partial(each.detect, image) for each in detectors]
    both = [functools.partial(lambda detector: detector.detect(decode(jpeg)), each) for each in detectors]
    with valkey() as server:
        client = redis.Redis(port=server.port)
        ways: dict[str, Callable[[], int]] = {
            "detector": lambda: bare(detect, options.frames),
            "decode, detector": lambda: bare(both, options.frames),
            "worker": lambda: pipeline(server.url, detectors),
            "worker, nothing shown": lambda: pipeline(server.url, detectors, SHOWING_NOTHING),
        }
        rates: dict[str, list[Rate]] = {way: [] for way in ways}
        bare(detect, 2 * options.threads)  # the first frames allocate
        for _ in range(options.rounds):
            for way, run in ways.items():
                fill(client, jpeg, options.frames)
                rates[way].append(measure(run))
        client.close()
    medians = {way: Rate(*map(statistics.median, zip(*each, strict=True))) for way, each in rates.items()}
    ratio = statistics.median(w.fps / d.fps for w, d in zip(rates["worker"], rates["detector"], strict=True))
    print(f"1280x720, {options.threads} threads, effort {options.effort}, median of {options.rounds} rounds")
    print(f"{'':24}{'frames/s':>10}{'CPU ms/frame':>14}")
    for way, rate in medians.items():
        print(f"{way:24}{rate.fps:10.1f}{rate.cpu_ms:14.1f}")
    print(f"worker / detector: {ratio:.3f}, goal at least {GOAL}: {'met' if ratio >= GOAL else 'MISSED'}")
    shown = statistics.median(
        w.fps / n.fps for w, n in zip(rates["worker"], rates["worker, nothing shown"], strict=True)
    )
    shown_cpu = statistics.median(
        n.cpu_ms / w.cpu_ms for w, n in zip(rates["worker"], rates["worker, nothing shown"], strict=True)
    )
    print(
        f"what is shown of streams costs {1 - shown:.1%} of the frames/s, by CPU {1 - shown_cpu:.1%}, goal at most 3%"
    )
    print(f"CPU: {medians['detector'].cpu_ms / medians['worker'].cpu_ms:.3f}")
    figures = {way: rate._asdict() for way, rate in medians.items()}
    print(json.dumps({"bench": "worker_throughput", "ratio": ratio, "shown": shown, "shown_cpu": shown_cpu, **figures}))


if __name__ == "__main__":
    main()
