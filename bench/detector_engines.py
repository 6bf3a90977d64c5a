"""The detector's two engines on the same pictures: are the hands the same, and how far apart are the networks' numbers?

    python -m bench.detector_engines photos/
    python -m bench.detector_engines photos/ --device cuda --precision float32 tf32 float16

LiteRT is the reference. The other engine is torch in each precision. The pictures are those of the folders, each also turned by
10 and by 90 degrees, mirrored, darkened, blurred, and at half its size (--no-variants: not). If a folder has a hands.json (see
bench.counting), the F1 of both is printed, too.

Where the hands differ, LiteRT repeats the picture with its own numbers moved by no more than the bounds (2e-3 pixels, 5e-4 log
odds, one grey level in 1e-4 of an input's values; bench.shaken_engine). If it then finds each hand that only the other engine
found, and loses each that the other engine lacks, decisions in that picture, such as a score at its threshold, hang on less
than the bounds: the difference is within the tolerance. Exits with 1 if float32 finds other hands that aren't, or if its
numbers are off by more than the bounds.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bench.counting_score import Box, Circle, Figures, figures
from worker.detect import read_image
from worker.download import download_progress
from worker.hands.detection import Hands
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.device.engine import DeviceEngine
from worker.hands.device.network import Network as TorchNetwork
from worker.hands.device.tflite import read_graph
from worker.hands.effort import Effort
from worker.hands.geometry import View, ious
from worker.hands.landmarks import LANDMARKS
from worker.hands.models import TITLE, ModelPaths, default_models_dir, ensure_models
from worker.hands.palm import PALMS
from worker.hands.persons import PERSONS
from worker.hands.poses import POSE_JOINTS, POSES
from worker.hands.pyramid import Pyramid
from worker.picture import Picture
from worker.picture_files import pictures_in

PIXELS, LOG_ODDS = 2e-3, 5e-4
"""The largest differences of the networks' numbers."""
SAME_BOX = 0.9
"""Boxes of the same hand overlap by at least this, intersection over union."""
CERTAIN = 20.0
"""Log odds beyond which a probability is 0 or 1 in float32, so that no difference matters."""
TRIES = 100
"""Repetitions of a picture whose hands differ, at most."""
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass
class Comparison:
    """What one engine found, compared with LiteRT, over many pictures."""

    pictures: int = 0
    hands: int = 0
    other_counts: list[str] = field(default_factory=list)
    other_hands: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    boxes_px: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    f1: Figures = field(default_factory=Figures)

    def add(self, name: str, found: Hands, expected: Hands) -> bool:
        """Compares one picture; returns whether its hands are the same."""
        self.pictures += 1
        self.hands += len(expected)
        if len(found) != len(expected):
            self.other_counts.append(name)
            return False
        pairs = matched(found, expected)
        others = [pair for pair in pairs if not pair.same]
        self.other_hands += [name] * len(others)
        self.boxes_px += [pair.box_px for pair in pairs]
        self.scores += [pair.score for pair in pairs]
        return not others

    def row(self) -> str:
        """Returns the table's row."""
        worst, usual = (max(self.boxes_px), float(np.median(self.boxes_px))) if self.boxes_px else (0.0, 0.0)
        return (
            f"{self.pictures:9}{self.hands:7}{len(self.other_counts):14}{len(self.other_hands):13}{len(self.unexplained):13}"
            f"{usual:12.3f}{worst:11.2f}{max(self.scores, default=0.0):12.4f}"
        )


class Pair(NamedTuple):
    """A hand as two engines found it."""

    same: bool
    box_px: float
    """The largest difference of their boxes' sides."""
    score: float
    """The difference of their scores."""


def matched(found: Hands, expected: Hands) -> list[Pair]:
    """Returns the hands of two engines that found equally many: to each expected one the most similar of those left."""
    left, pairs = list(range(len(found))), []
    for row in range(len(expected)):
        overlaps = ious(expected.boxes[row : row + 1], found.boxes[left])[0]
        best = left.pop(int(overlaps.argmax()))
        same = bool(overlaps.max() >= SAME_BOX and found.is_right[best] == expected.is_right[row])
        apart = float(np.abs(found.boxes[best] - expected.boxes[row]).max())
        pairs.append(Pair(same, apart, float(abs(found.scores[best] - expected.scores[row]))))
    return pairs


@dataclass
class Explained:
    """The hands that only one engine found in a picture, less those that LiteRT itself finds, or loses, within the bounds.

    Each by itself: where many hang on less than the bounds, no repetition has just the other engine's.
    """

    more: Hands
    """Found by the other engine alone."""
    fewer: Hands
    """Found by LiteRT alone."""

    @classmethod
    def of(cls, found: Hands, expected: Hands) -> "Explained":
        """Returns those of the other engine and of LiteRT that aren't explained yet."""
        return cls(found[~among(found, expected)], expected[~among(expected, found)])

    def repeated(self, hands: Hands) -> bool:
        """Takes the hands of a repetition; returns whether nothing is left to explain."""
        self.more, self.fewer = self.more[~among(self.more, hands)], self.fewer[among(self.fewer, hands)]
        return not len(self.more) + len(self.fewer)


def among(hands: Hands, others: Hands) -> NDArray[np.bool_]:
    """Returns which (N,) hands are the same as one of others."""
    same = (ious(hands.boxes, others.boxes) >= SAME_BOX) & (hands.is_right[:, None] == others.is_right)
    return np.asarray(same.any(axis=1), np.bool_)


def within_tolerance(image: Picture, found: Hands, expected: Hands, models: ModelPaths, effort: Effort) -> bool:
    """Returns whether LiteRT finds and loses the hands that differ when its numbers are moved by no more than the bounds."""
    from bench.shaken_engine import ShakenEngine

    left = Explained.of(found, expected)
    return any(
        left.repeated(PalmLandmarkDetector(ShakenEngine(models, seed), effort=effort).detect(image))
        for seed in range(TRIES)
    )


def variants(image: Picture) -> Iterator[tuple[str, Picture]]:
    """Yields a picture and what becomes of it in worse light, focus and position."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 10, 1.0)
    yield "", image
    yield "turned 10", cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)
    yield "turned 90", np.ascontiguousarray(np.rot90(image))
    yield "mirrored", np.ascontiguousarray(image[:, ::-1])
    yield "dark", (image * 0.4).astype(np.uint8)
    yield "blurred", cv2.GaussianBlur(image, (0, 0), 2.0).astype(np.uint8)
    yield "half", cv2.resize(image, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)


def numbers(models: ModelPaths, images: Sequence[Picture]) -> dict[str, float]:
    """Returns the largest differences of the networks in float32: pixels and log odds."""
    from worker.hands.litert_engine import Model

    worst: dict[str, float] = {}

    def compare(name: str, found: np.ndarray, expected: np.ndarray) -> None:
        worst[name] = max(worst.get(name, 0.0), float(np.abs(found - expected).max(initial=0.0)))

    for network in (PALMS, PERSONS, LANDMARKS, POSES):
        file, name = getattr(models, network.file), network.file
        module, lite = TorchNetwork(read_graph(file), (0, 1)).eval(), Model(file)
        for image in images:
            height, width = image.shape[:2]
            given = network.values(Pyramid(image).letterboxed(View(0, 0, width, height), network.size))[None]
            first, second = run(module, given)
            lite.run(given)
            wanted_first, wanted_second = lite.output(0), lite.output(1)
            if network is POSES:  # x, y, z and two log odds of each joint
                first, wanted_first = (each.reshape(POSE_JOINTS, 5) for each in (first, wanted_first))
                compare(f"{name} log odds", first[:, 3:], wanted_first[:, 3:])
                first, wanted_first = first[:, :2], wanted_first[:, :2]
            if network in (LANDMARKS, POSES):
                second, wanted_second = (np.log(each / (1 - each)) for each in (second, wanted_second))
            if (
                network is PERSONS
            ):  # those at other anchors lie up to hundreds of pixels outside, and nobody asks for them
                asked = wanted_second[..., 0] >= network.min_logit
                first, wanted_first = first[asked], wanted_first[asked]
            compare(f"{name} px", first, wanted_first)
            compare(f"{name} log odds", *(np.clip(each, -CERTAIN, CERTAIN) for each in (second, wanted_second)))
    return worst


@torch.inference_mode()
def run(network: TorchNetwork, given: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs of a network on the CPU."""
    return [output.numpy() for output in network(torch.from_numpy(given))]


def score(hands: Hands, circles: Sequence[Circle]) -> Figures:
    """Returns the figures of a picture."""
    middles = (hands.boxes[:, :2] + hands.boxes[:, 2:]) / 2
    boxes = [Box(float(x), float(y), bool(right)) for (x, y), right in zip(middles, hands.is_right, strict=True)]
    return figures(boxes, circles)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Lets convolutions and products in float32 have inputs of ten bits."""
    from worker.hands.device import runner

    kept = runner._float32_convolutions
    if allowed:

        @contextmanager
        def loose() -> Iterator[None]:
            with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
                yield

        runner._float32_convolutions = loose
    try:
        yield
    finally:
        runner._float32_convolutions = kept


def main() -> int:
    """Prints a table and one line of JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="folders of pictures")
    parser.add_argument("--effort", type=Effort, action="append", choices=list(Effort), help="default: all levels")
    parser.add_argument("--device", default="cpu", help="what torch runs on")
    parser.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=["float32"])
    parser.add_argument("--no-variants", action="store_true", help="the pictures as they are, alone")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth picture alone")
    options = parser.parse_args()
    from worker.hands.litert_engine import LiteRtEngine  # not at the top: bench.on_gpu also runs without LiteRT

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with download_progress(sys.stderr, TITLE) as progress:
        models = ensure_models(default_models_dir(), progress)
    pictures = [read(file) for folder in options.folders for file in pictures_of(folder)[:: options.every]]
    differences = numbers(models, [image for _, image, _ in pictures])
    print(", ".join(f"{name} {value:.2g}" for name, value in differences.items()), f"(bounds {PIXELS}, {LOG_ODDS})")
    heads = (
        ("pictures", 9),
        ("hands", 7),
        ("other counts", 14),
        ("other hands", 13),
        ("unexplained", 13),
        ("box, px", 12),
        ("worst", 11),
    )
    print(" " * 28 + "".join(f"{head:>{width}}" for head, width in (*heads, ("score", 12), ("F1", 8))))
    printed: dict[str, Any] = {}
    explained = True
    for effort in options.effort or list(Effort):
        reference = PalmLandmarkDetector(LiteRtEngine(models), effort=effort)
        expected = [
            (f"{name} {variant}".strip(), each, reference.detect(each), circles if not variant else [])
            for name, image, circles in pictures
            for variant, each in variants(image)
            if not (variant and options.no_variants)
        ]
        truth = [score(hands, circles) for _, _, hands, circles in expected if circles]
        for precision in options.precision:
            compared = Comparison()
            with (
                tf32(precision == "tf32"),
                closing(DeviceEngine(models, torch.device(options.device), dtype=PRECISIONS[precision])) as engine,
            ):
                detector = PalmLandmarkDetector(engine, effort=effort)
                for name, image, hands, circles in expected:
                    found = detector.detect(image)
                    same = compared.add(name, found, hands)
                    if (
                        not same
                        and precision == "float32"
                        and not within_tolerance(image, found, hands, models, effort)
                    ):
                        compared.unexplained.append(name)
                    compared.f1 += score(found, circles) if circles else Figures()
            f1s = f"{compared.f1.f1:8.3f} (LiteRT {sum(truth, Figures()).f1:.3f})" if truth else ""
            print(f"{f'{effort}, {precision}':28}{compared.row()}{f1s}")
            for name in compared.other_counts + compared.other_hands:
                print(f"    {name}{': beyond the tolerance' if name in compared.unexplained else ''}")
            printed[f"{effort} {precision}"] = {
                "pictures": compared.pictures, "hands": compared.hands, "other_counts": len(compared.other_counts),
                "other_hands": len(compared.other_hands), "unexplained": len(compared.unexplained),
                "box_px": max(compared.boxes_px, default=0.0), "f1": compared.f1.f1,
            }  # fmt: skip
            explained = explained and not compared.unexplained
    exact = all(value <= (LOG_ODDS if "odds" in name else PIXELS) for name, value in differences.items())
    print(json.dumps({"bench": "detector_engines", "device": options.device, "numbers": differences, **printed}))
    return 0 if explained and exact else 1


def pictures_of(folder: Path) -> list[Path]:
    """Returns the pictures of a folder, or of the folder `pictures` in it."""
    inside = folder / "pictures"
    return list(pictures_in(inside if inside.is_dir() else folder))


def read(file: Path) -> tuple[str, Picture, list[Circle]]:
    """Returns a picture with its name and the hands that hands.json has for it."""
    image = read_image(str(file))
    height, width = image.shape[:2]
    notes = [folder / "hands.json" for folder in (file.parent, file.parent.parent)]
    known = next((json.loads(note.read_text()) for note in notes if note.is_file()), {})
    circles = [Circle(x * width, y * height, radius * width, "") for x, y, radius in known.get(file.name, [])]
    return file.name, image, circles


if __name__ == "__main__":
    sys.exit(main())
