"""Where the CPU detector spends its time, at each level of effort; draws docs/figures/detector.svg.

    python -m bench.detector --pictures DIR
    python -m bench.detector --batches

Measures the CPU time of one thread, with the levels in turns over the pictures; the median of several rounds, and its ratio
to that of `fast`, which varies less from machine to machine. Without --pictures it uses simulated pictures, in which there
is less to look at than in photos. With --batches it measures instead what one input costs if LiteRT runs several in one
call.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from bench.bars import stacked_bars
from worker.detect import read_image
from worker.download import download_progress
from worker.hands import litert_engine
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.effort import Effort
from worker.hands.landmarks import LANDMARKS
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, ModelPaths, default_models_dir, ensure_models
from worker.hands.networks import Network
from worker.hands.palm import PALMS
from worker.hands.persons import PERSONS
from worker.hands.poses import POSES
from worker.hands.pyramid import Pyramid
from worker.picture import Picture
from worker.picture_files import pictures_in
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "figures" / "detector.svg"
STEPS = {"palms": PALMS, "persons": PERSONS, "poses": POSES, "looks": LANDMARKS}
"""The network whose time is a step's."""
RUNS = ("anchor_rows", "crop_row")
"""Run a network; cutting its input is measured apart from them."""
CUTS = ("letterboxed", "upright")
BATCHES = (1, 2, 4)


@contextmanager
def timed(spent: Counter[str], runs: Counter[str]) -> Iterator[None]:
    """Adds up each step's CPU seconds and runs while it is entered."""
    names = {network: step for step, network in STEPS.items()}

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def measured(*args: Any) -> Any:
            step = next((names[arg] for arg in args if isinstance(arg, Network)), "inputs")
            started = time.thread_time()
            result = function(*args)
            spent[step] += time.thread_time() - started
            runs[step] += 1
            return result

        return measured

    places = [(litert_engine, name) for name in RUNS] + [(Pyramid, name) for name in CUTS]
    originals = [(owner, name, getattr(owner, name)) for owner, name in places]
    try:
        for owner, name, function in originals:
            setattr(owner, name, wrap(function))
        yield
    finally:
        for owner, name, method in originals:
            setattr(owner, name, method)


def shares(detector: PalmLandmarkDetector, pictures: Sequence[Picture]) -> tuple[dict[str, float], Counter[str]]:
    """Returns the CPU milliseconds a picture of each step and of everything else, and the runs of each step."""
    spent: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    with timed(spent, runs):
        started = time.thread_time()
        for picture in pictures:
            detector.detect(picture)
        total = time.thread_time() - started
    steps = {step: spent[step] / len(pictures) * 1e3 for step in ("inputs", *STEPS)}
    return {**steps, "rules": total / len(pictures) * 1e3 - sum(steps.values())}, runs


def batches(models: ModelPaths) -> dict[str, list[float]]:
    """Returns for each model the CPU milliseconds an input, in batches of BATCHES inputs."""
    table = {}
    for file in astuple(models):
        row = []
        for size in BATCHES:
            interpreter = Interpreter(model_path=str(file), num_threads=1)
            given = interpreter.get_input_details()[0]
            interpreter.resize_tensor_input(given["index"], [size, *given["shape"][1:]])
            interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], np.zeros([size, *given["shape"][1:]], np.float32))
            times = []
            for _ in range(10):
                started = time.thread_time()
                interpreter.invoke()
                times.append((time.thread_time() - started) / size * 1e3)
            row.append(statistics.median(times))
        table[file.name] = row
    return table


def main() -> None:
    """Writes the figure; prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="folder of pictures; default: simulated ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where to write the SVG")
    parser.add_argument("--batches", action="store_true", help="measure batches of inputs instead")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with download_progress(sys.stderr, TITLE) as progress:
        models = ensure_models(default_models_dir(), progress)
    if options.batches:
        print(f"{'CPU ms an input, in batches of':32}" + "".join(f"{size:8}" for size in BATCHES))
        table = batches(models)
        for name, row in table.items():
            print(f"{name:32}" + "".join(f"{ms:8.1f}" for ms in row))
        print(json.dumps({"bench": "detector", "batches": table}))
        return
    if options.pictures:
        pictures = [read_image(str(file)) for file in pictures_in(options.pictures)]
    else:
        camera = SyntheticCamera(SyntheticSpec(size=(1280, 720), fps=1.0))
        pictures = [camera.frame(index) for index in range(0, 24, 4)]
    detectors = {effort.value: PalmLandmarkDetector(LiteRtEngine(models), effort=effort) for effort in Effort}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in detectors}
    runs: dict[str, Counter[str]] = {}
    for _ in range(options.rounds):
        for name, detector in detectors.items():
            measured, runs[name] = shares(detector, pictures)
            rounds[name].append(measured)
    bars = {
        name: {step: statistics.median(one[step] for one in each) for step in each[0]} for name, each in rounds.items()
    }
    title = "CPU time of a picture by step and effort"
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    options.figure.write_text(stacked_bars(title, "ms", bars))
    print(f"{len(pictures)} pictures; CPU ms a picture, and runs of the models a picture")
    steps = "".join(f"{step:>10}" for step in bars["fast"])
    print(f"{'':12}{steps}{'total':>10}{'frames/s':>10}{'to fast':>10}")
    totals = {name: sum(bar.values()) for name, bar in bars.items()}
    ratios = {name: total / totals["fast"] for name, total in totals.items()}
    for name, bar in bars.items():
        row = "".join(f"{ms:10.1f}" for ms in bar.values())
        print(f"{name:12}{row}{totals[name]:10.1f}{1e3 / totals[name]:10.1f}{ratios[name]:10.2f}")
        print(f"{'  runs':12}" + "".join(f"{runs[name][step] / len(pictures):10.1f}" for step in list(bar)[:-1]))
    print(json.dumps({"bench": "detector", "ms": bars, "cpu_to_fast": ratios}))


if __name__ == "__main__":
    main()
