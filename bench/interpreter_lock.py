"""How long a frame holds the interpreter's lock, and so how many frames a second a worker process can count on a GPU at most.

    python -m bench.interpreter_lock --pictures photos/

The networks run without the lock; what holds it is measured with answers that were recorded from them: the rules of the search
and the result's JSON, the rows that describe the inputs, and the handing over of requests between the threads of the engine.
CPU milliseconds a picture, the median of several rounds. JPEGs are decoded without the lock.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from worker.detect import read_image
from worker.download import download_progress
from worker.frame_counter import count_hands
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.device.arena import Placed, level_starts
from worker.hands.device.batches import Batches
from worker.hands.device.inputs import Rows, crop_rows, view_rows
from worker.hands.device.runner import Ready
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, default_models_dir, ensure_models
from worker.hands.networks import Answer, Answerer, Network, Request, SearchViews
from worker.picture import Picture
from worker.picture_files import pictures_in
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec


class Recorded:
    """An engine that gives the answers of another one again."""

    name = "recorded"

    def __init__(self, engine: LiteRtEngine) -> None:
        """Takes the engine whose answers are recorded."""
        self._engine = engine
        self._answers: dict[int, list[Answer]] = {}
        self.requests: dict[int, list[Request]] = {}

    def prepare(self, networks: list[Network]) -> None:
        """Loads networks."""
        self._engine.prepare(networks)

    @contextmanager
    def open(self, image: Picture) -> Iterator[Answerer]:
        """Yields what answers: the first time the engine, then from memory."""
        if id(image) in self._answers:
            answers = iter(self._answers[id(image)])
            yield lambda _request: next(answers)
            return
        heard: list[Answer] = []
        asked: list[Request] = []
        with self._engine.open(image) as answer:

            def record(request: Request) -> Answer:
                asked.append(request)
                heard.append(answer(request))
                return heard[-1]

            yield record
        self._answers[id(image)], self.requests[id(image)] = heard, asked


def rows_of(image: Picture, request: Request) -> Rows:
    """Returns what the device gets for a request."""
    height, width = image.shape[:2]
    starts, length = level_starts(width, height)
    placed = Placed(width, height, tuple(starts), length)
    if isinstance(request, SearchViews):
        return view_rows(placed, request.views, request.network.size)
    return crop_rows(placed, request.squares, request.network.size)


def measure(images: list[Picture], effort: Effort, engine: LiteRtEngine, rounds: int) -> dict[str, float]:
    """Returns the milliseconds a picture of each share, and the requests a picture."""
    recorded = Recorded(engine)
    detector = PalmLandmarkDetector(recorded, effort=effort)  # type: ignore[arg-type]
    for image in images:
        detector.detect(image)
    requests = [(image, request) for image in images for request in recorded.requests[id(image)]]
    rows = [rows_of(image, request) for image, request in requests]
    batches: Batches[str] = Batches(lambda _kind, rows: Ready(np.zeros((len(rows), 1), np.float32)), 64)
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
        for each in rows:
            batches.run("", each)
        shares["handing over"].append(time.process_time() - started)
    batches.close()
    table = {name: statistics.median(times) / len(images) * 1e3 for name, times in shares.items()}
    return {**table, "all": sum(table.values()), "requests": len(requests) / len(images)}


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="folder of pictures; default: simulated people")
    parser.add_argument("--rounds", type=int, default=7)
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
    print(json.dumps({"bench": "interpreter_lock", "ms": printed}))


if __name__ == "__main__":
    main()
