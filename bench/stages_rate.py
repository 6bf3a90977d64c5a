"""Frames per second of the worker's stages, from JPEG to result, without a queue: what the pipeline can do at most."""

import queue as queues
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.hands.detection import HandDetector
from worker.metrics import Metrics
from worker.picture_header import MAX_PIXELS
from worker.pipeline.stages import Stages
from worker.queue.delivery import Counted, Delivery, Job, Settled
from worker.queue.frame import Frame


@dataclass(frozen=True)
class Rate:
    """What the stages did."""

    frames: int
    seconds: float
    cpu_s: float


def stages_rate(detectors: Sequence[HandDetector], jpeg: bytes, seconds: float) -> Rate:
    """Counts the same picture again and again for so long, with a decoding thread for each detector.

    Raises:
        RuntimeError: a frame couldn't be counted.
    """
    settled: queues.SimpleQueue[Settled | None] = queues.SimpleQueue()
    until = time.perf_counter() + seconds
    frame = Frame("1-0", "camera", 1.0, None, jpeg, 1.0, live=False)
    job = Job(frame, jpeg, Delivery("1-0", {}, 1))
    stages = Stages(
        detectors,
        lambda: job if time.perf_counter() < until else None,
        settled,
        Metrics(),
        now=lambda: 1.0,
        max_age=float("inf"),
        max_pixels=MAX_PIXELS,
    )
    started, cpu = time.perf_counter(), time.process_time()
    decoding, finishing = (_start(runs) for runs in (stages.decoding(), stages.finishing()))
    for thread in decoding:
        thread.join()
    stages.finish(60.0)
    for thread in finishing:
        thread.join()
    took, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    frames = 0
    while not settled.empty():
        if not isinstance(each := settled.get(), Counted):
            raise RuntimeError(f"a frame wasn't counted: {each}")
        frames += 1
    return Rate(frames, took, cpu_s)


def _start(runs: Sequence[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=run, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    return threads
