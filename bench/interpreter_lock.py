"""How long a frame holds the interpreter's lock, and so how many frames a second a worker process can count on a GPU at most.

    python -m bench.interpreter_lock --pictures photos/
    python -m bench.interpreter_lock --beside 2      also what 2 threads do beside each other, and 2 processes

The networks run without the lock; what holds it is measured with answers that were recorded from them: the rules of the search
and the result's JSON, the rows that describe the inputs, and the handing over of requests, answers and hands between
the threads of the engine and the stages. CPU milliseconds a picture, the median of several rounds. JPEGs are decoded without
the lock.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np

from worker.detect import read_image
from worker.download import download_progress
from worker.frame_counter import count_hands
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.device.arena import Placed, level_starts
from worker.hands.device.batches import Batches
from worker.hands.device.computation import Computation
from worker.hands.device.engine import AT_ONCE
from worker.hands.device.inputs import Rows, crop_rows, view_rows
from worker.hands.device.runner import BUCKETS, Ready
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, default_models_dir, ensure_models
from worker.hands.networks import Answer, Found, Keep, Network, Request, SearchViews, Steps, answered
from worker.picture import Picture
from worker.picture_files import pictures_in
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec


class Recorded:
    """An engine that gives the answers of another one again."""

    name = "recorded"
    at_once = 1

    def __init__(self, engine: LiteRtEngine) -> None:
        """Takes the engine whose answers are recorded."""
        self._engine = engine
        self._answers: dict[int, list[Answer]] = {}
        self.requests: dict[int, list[Request]] = {}

    def prepare(self, networks: list[Network]) -> None:
        """Loads networks."""
        self._engine.prepare(networks)

    def run(self, image: Picture, steps: Steps[Found], _keep: Keep | None = None) -> "Future[Found]":
        """Answers: the first time as the engine does, then from memory."""
        found: Future[Found] = Future()
        if id(image) in self._answers:
            answers = iter(self._answers[id(image)])
            found.set_result(answered(steps, lambda _request: next(answers)))
            return found
        heard: list[Answer] = []
        asked: list[Request] = []
        with self._engine.open(image) as answer:

            def record(request: Request) -> Answer:
                asked.append(request)
                heard.append(answer(request))
                return heard[-1]

            found.set_result(answered(steps, record))
        self._answers[id(image)], self.requests[id(image)] = heard, asked
        return found


def rows_of(image: Picture, request: Request) -> Rows:
    """Returns what the device gets for a request."""
    height, width = image.shape[:2]
    starts, length = level_starts(width, height)
    placed = Placed(width, height, tuple(starts), length)
    if isinstance(request, SearchViews):
        return view_rows(placed, request.views, request.network.size)
    return crop_rows(placed, request.squares, request.network.size)


def asking(rows: Sequence[tuple[str, Rows]]) -> "Generator[Any, Answer, None]":
    """Asks as a search does, and makes nothing of the answers."""
    for each in rows:
        _ = yield each


def asked(rows: Sequence[tuple[str, Rows]], batches: Batches[str]) -> "Future[None]":
    """Lets what is asked about a picture be answered, as the engine on a GPU does."""

    def ask(request: Any) -> None:
        batches.ask(request[0], request[1], lambda outputs: computation.go_on(list(outputs)))  # type: ignore[arg-type]

    computation = Computation(asking(rows), ask, lambda _has_found: None)
    computation.start()
    return computation.found


def hand_over(pictures: Sequence[Sequence[tuple[str, Rows]]], batches: Batches[str]) -> None:
    """Lets what is asked about each picture be answered, as many pictures at a time as keep the engine busy."""
    done: SimpleQueue[Future[None]] = SimpleQueue()
    for number, rows in enumerate(pictures):
        if number >= AT_ONCE:
            done.get().result()
        asked(rows, batches).add_done_callback(done.put)
    for _ in range(min(AT_ONCE, len(pictures))):
        done.get().result()


def measure(images: list[Picture], effort: Effort, engine: LiteRtEngine, rounds: int) -> dict[str, float]:
    """Returns the milliseconds a picture of each share, and the requests a picture."""
    recorded = Recorded(engine)
    detector = PalmLandmarkDetector(recorded, effort=effort)  # type: ignore[arg-type]
    for image in images:
        detector.detect(image)
    requests = [(image, request) for image in images for request in recorded.requests[id(image)]]
    several = max(1, AT_ONCE * 2 // len(images))
    pictures = [
        [(each.network.file, rows_of(image, each)) for each in recorded.requests[id(image)]] for image in images
    ] * several
    batches: Batches[str] = Batches(lambda _kind, rows: Ready(np.zeros((len(rows), 1), np.float32)), BUCKETS[-1])
    shares: dict[str, list[float]] = {"rules": [], "inputs": [], "handing over": []}
    for _ in range(rounds):
        started = time.thread_time()
        for image in images:
            count_hands("camera", 1.0, image, detector).to_json("1-0", 0.1)
        shares["rules"].append(time.thread_time() - started)
        started = time.thread_time()
        for image, request in requests:
            rows_of(image, request)
        shares["inputs"].append(time.thread_time() - started)
        started = time.process_time()
        hand_over(pictures, batches)
        shares["handing over"].append((time.process_time() - started) / several)
    batches.close()
    table = {name: statistics.median(times) / len(images) * 1e3 for name, times in shares.items()}
    return {**table, "all": sum(table.values()), "requests": len(requests) / len(images)}


def beside(images: list[Picture], engine: LiteRtEngine, number: int, rounds: int) -> dict[str, float]:
    """Returns the pictures a second of the rules at `balanced`: in one thread, in several, and in several processes."""
    detector = PalmLandmarkDetector(Recorded(engine), effort=Effort.BALANCED)  # type: ignore[arg-type]
    for image in images:
        detector.detect(image)
    fork = multiprocessing.get_context("fork")

    def work(done: "SimpleQueue[int] | multiprocessing.SimpleQueue[int]") -> None:
        count, until = 0, time.perf_counter() + 1.0
        while time.perf_counter() < until:
            count_hands("camera", 1.0, images[count % len(images)], detector).to_json("1-0", 0.1)
            count += 1
        done.put(count)

    def rate(start: Callable[..., Any], workers: int) -> int:
        done = fork.SimpleQueue()
        each = [start(target=work, args=(done,)) for _ in range(workers)]
        for one in each:
            one.start()
        for one in each:
            one.join()
        return sum(done.get() for _ in each)

    ways = {"one": (threading.Thread, 1), "threads": (threading.Thread, number), "processes": (fork.Process, number)}
    rates: dict[str, list[int]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (start, workers) in ways.items():
            rates[way].append(rate(start, workers))
    return {way: max(each) for way, each in rates.items()}  # the round that other programs disturbed least


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="folder of pictures; default: simulated people")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--beside", type=int, default=1, metavar="N", help="threads and processes that are compared")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with download_progress(sys.stderr, TITLE) as progress:
        engine = LiteRtEngine(ensure_models(default_models_dir(), progress))
    if options.pictures:
        images = [read_image(str(file)) for file in pictures_in(options.pictures)]
    else:
        camera = SyntheticCamera(SyntheticSpec(size=(1280, 720), fps=1.0, people=(0, 2)))
        images = [camera.frame(index) for index in range(0, 40, 5)]
    printed = {}
    print(f"{len(images)} pictures; ms a picture with the interpreter's lock, requests a picture, frames/s at most")
    print(f"{'':12}{'rules':>10}{'inputs':>10}{'handing over':>14}{'all':>10}{'requests':>10}{'frames/s':>10}")
    for effort in Effort:
        found = printed[effort.value] = measure(images, effort, engine, options.rounds)
        print(
            f"{effort:12}{found['rules']:10.2f}{found['inputs']:10.2f}{found['handing over']:14.2f}{found['all']:10.2f}"
            f"{found['requests']:10.1f}{1e3 / found['all']:10.0f}"
        )
    rates = beside(images, engine, options.beside, options.rounds) if options.beside > 1 else {}
    if rates:
        many, processes = rates["threads"] / rates["one"], rates["processes"] / rates["one"]
        print(f"rules of {options.beside} threads beside each other: {many:.2f} times the pictures/s of one thread")
        print(f"of {options.beside} processes: {processes:.2f} times")
    print(json.dumps({"bench": "interpreter_lock", "ms": printed, "beside": rates}))


if __name__ == "__main__":
    main()
