"""The way of a frame from its JPEG to its result with HaMeR, stage by stage: ours beside the plain one, in turns.

Plain is what the official demo does after its detector: whole frames on the CPU, one crop at a time, eager float32, and each
output copied back on its own. The detector is ours in both. Two given boxes stand for what it finds, so that each frame has two
hands. bench.hamer prints the table.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bench.hamer_reference import PlainHamer
from worker.hamer.consistency import Thresholds, judge
from worker.hamer.detector import posed_hands
from worker.hamer.engine import Engine
from worker.hamer.geometry import Crops, blur_radius, blur_sigma, crops_of_boxes
from worker.hamer.predictor import HamerPredictor
from worker.hamer.refiner import RefinedHands
from worker.hands.detection import HandDetector, Hands
from worker.picture import Picture, decode
from worker.results import FrameResult

STAGES = ("decode", "detect", "crop", "network", "result")

WIDTH = 1280
"""Pixels of a picture, unless another width is given."""


def hands_in(width: int) -> Hands:
    """Returns the two hands of a picture of this width; its height is 9/16 of that."""
    return Hands(
        boxes=np.array([[500, 200, 640, 380], [700, 260, 850, 430]], np.float32) * (width / WIDTH),
        is_right=np.array([True, False]),
        scores=np.array([0.9, 0.8], np.float32),
        keypoints=np.full((2, 21, 2), np.nan, np.float32),
    )


Stage = Callable[[Any], Any]
"""Takes what the stage before returned; the first one takes the JPEG."""


def our_stages(detector: HandDetector, engine: Engine, found: Hands) -> dict[str, Stage]:
    """Returns the stages as the worker runs them, each waiting for the device at its end."""
    predictor = HamerPredictor(engine)
    squares = crops_of_boxes(found.boxes, found.is_right)
    size = (0, 0)

    def detect(image: Picture) -> Picture:
        nonlocal size
        size = image.shape[1], image.shape[0]
        detector.detect(image)
        return image

    def result(rows: NDArray[np.float32]) -> str:
        poses = predictor.poses(rows, squares, *size)
        verdicts = judge(poses, *_numbers(found), size, Thresholds())
        # All are kept, because the random network's hands contradict any box.
        hands = posed_hands(found, RefinedHands(np.arange(len(found)), poses, verdicts))
        return FrameResult("camera", 1.0, detector.name, detector.engine, *size, hands, 0.0, 0.0).to_json("1-0", 0.1)

    return {
        "decode": decode,
        "detect": detect,
        "crop": lambda image: predictor.crop(image, squares),
        "network": lambda cropped: engine.launch(engine.join([cropped])).wait(),
        "result": result,
    }


def plain_stages(detector: HandDetector, plain: PlainHamer, engine: Engine, found: Hands) -> dict[str, Stage]:
    """Returns the stages without any optimisation; of the engine only what isn't measured is used."""
    ours = our_stages(detector, engine, found)
    device, mean, std = engine.device, engine.model.mean.cpu().numpy(), engine.model.std.cpu().numpy()
    squares = crops_of_boxes(found.boxes, found.is_right)

    def crop(image: Picture) -> list[torch.Tensor]:
        return [plain_crop(image, squares[np.array([n])], mean, std).to(device) for n in range(len(squares))]

    def network(crops: Sequence[torch.Tensor]) -> list[dict[str, NDArray[np.float32]]]:
        return [{name: out.cpu().numpy() for name, out in plain(each).items()} for each in crops]

    rows = np.zeros((len(squares), engine.layout.length), np.float32)
    return {**ours, "crop": crop, "network": network, "result": lambda _outputs: ours["result"](rows)}


def plain_crop(image: Picture, square: Crops, mean: NDArray[np.float32], std: NDArray[np.float32]) -> torch.Tensor:
    """Returns one crop (1, 3, 256, 192): blurs the whole frame if the square is large, and warps it on the CPU."""
    (side,), ((x, y),), (mirrored,) = square.sizes, square.centers, square.mirrored
    frame: NDArray[Any] = image
    if sigma := blur_sigma(side, 256):
        width = 2 * blur_radius(sigma) + 1
        frame = cv2.GaussianBlur(image.astype(np.float64), (width, width), sigma, borderType=cv2.BORDER_REPLICATE)
    scale = 256 / side
    flip = -scale if mirrored else scale
    matrix = np.array([[flip, 0, 128 - flip * x], [0, scale, 128 - scale * y]])
    crop = cv2.warpAffine(frame, matrix, (256, 256), flags=cv2.INTER_LINEAR)[..., ::-1]
    normalised = (crop - 255 * mean) / (255 * std)
    return torch.from_numpy(normalised.astype(np.float32).transpose(2, 0, 1)[None, :, :, 32:224].copy())


def milliseconds(
    ways: Mapping[str, Mapping[str, Stage]], jpeg: bytes, rounds: int, wait: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """Runs the ways in turns; returns the median milliseconds of each stage, and of `all`.

    Args:
        ways: stages by their names, by the names of the ways.
        jpeg: a frame.
        rounds: how often each way is run, besides once to warm up.
        wait: returns when the device has done everything.
    """
    times: dict[str, dict[str, list[float]]] = {way: {stage: [] for stage in (*STAGES, "all")} for way in ways}
    for number in range(rounds + 1):
        for way, stages in ways.items():
            value: Any = jpeg
            taken = {}
            for stage in STAGES:
                wait()
                began = time.perf_counter()
                value = stages[stage](value)
                wait()
                taken[stage] = (time.perf_counter() - began) * 1e3
            for stage, ms in {**taken, "all": sum(taken.values())}.items():
                if number:
                    times[way][stage].append(ms)
    return {way: {stage: statistics.median(each) for stage, each in stages.items()} for way, stages in times.items()}


def table(found: Mapping[str, Mapping[str, float]], hands: int = 2) -> list[str]:
    """Returns the lines of a table with a row for each stage and a column for each way."""
    lines = [f"| ms a frame with {hands} hands | " + " | ".join(found) + " |", "| --- |" + " ---: |" * len(found)]
    return lines + [
        f"| {stage} | " + " | ".join(f"{way[stage]:.2f}" for way in found.values()) + " |" for stage in (*STAGES, "all")
    ]


def _numbers(hands: Hands) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    boxes, scores, keypoints = (np.asarray(each, np.float64) for each in (hands.boxes, hands.scores, hands.keypoints))
    return boxes, scores, keypoints
