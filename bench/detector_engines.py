"""The detector's two engines on the same pictures: are the hands the same, and how far apart are the networks' numbers?

    python -m bench.detector_engines photos/
    python -m bench.detector_engines photos/ --device cuda --precision float32 tf32 float16

LiteRT is the reference. The other engine is torch in each precision. The pictures are those of the folders, each also turned by
10 and by 90 degrees, mirrored, darkened, blurred, and at half its size (--no-variants: not). If a folder has a hands.json (see
bench.counting), the F1 of both is printed, too. Exits with 1 if float32 finds other hands, or its numbers are off by more than
2e-3 pixels or 5e-4 log odds.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

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
from worker.hands.pyramid import Pyramid
from worker.picture import Picture
from worker.picture_files import pictures_in

PIXELS, LOGITS = 2e-3, 5e-4
SAME_BOX = 0.9
"""Boxes of the same hand overlap by at least this, intersection over union."""
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass
class Comparison:
    """What one engine found, compared with LiteRT, over many pictures."""

    pictures: int = 0
    hands: int = 0
    other_counts: list[str] = field(default_factory=list)
    other_hands: list[str] = field(default_factory=list)
    boxes_px: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    f1: Figures = field(default_factory=Figures)

    def add(self, name: str, found: Hands, expected: Hands) -> None:
        """Compares one picture."""
        self.pictures += 1
        self.hands += len(expected)
        if len(found) != len(expected):
            self.other_counts.append(name)
            return
        left = list(range(len(found)))
        for row in range(len(expected)):
            overlaps = ious(expected.boxes[row : row + 1], found.boxes[left])[0]
            best = left.pop(int(overlaps.argmax()))
            if overlaps.max() < SAME_BOX or found.is_right[best] != expected.is_right[row]:
                self.other_hands.append(name)
            self.boxes_px.append(float(np.abs(found.boxes[best] - expected.boxes[row]).max()))
            self.scores.append(float(abs(found.scores[best] - expected.scores[row])))

    def row(self) -> str:
        """Returns the table's row."""
        worst, usual = (max(self.boxes_px), float(np.median(self.boxes_px))) if self.boxes_px else (0.0, 0.0)
        return (
            f"{self.pictures:9}{self.hands:7}{len(self.other_counts):14}{len(self.other_hands):13}"
            f"{usual:12.3f}{worst:11.2f}{max(self.scores, default=0.0):12.4f}"
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
    """Returns the largest differences of the palm and the landmark network in float32: pixels and log odds."""
    worst = {"palm px": 0.0, "palm log odds": 0.0, "landmarks px": 0.0, "presence log odds": 0.0}
    from worker.hands.litert_engine import Model

    palm, landmarks = (
        TorchNetwork(read_graph(file), wanted).eval()
        for file, wanted in ((models.palm, (0, 1)), (models.landmarks, (0, 1)))
    )
    lite_palm, lite_landmarks = Model(models.palm), Model(models.landmarks)
    for image in images:
        height, width = image.shape[:2]
        view, pyramid = View(0, 0, width, height), Pyramid(image)
        given = PALMS.values(pyramid.letterboxed(view, PALMS.size))[None]
        regressors, logits = run(palm, given)
        lite_palm.run(given)
        worst["palm px"] = max(worst["palm px"], off(regressors, lite_palm.output(0)))
        worst["palm log odds"] = max(worst["palm log odds"], off(logits, lite_palm.output(1)))
        given = LANDMARKS.values(pyramid.letterboxed(view, LANDMARKS.size))[None]
        joints, presence = run(landmarks, given)
        lite_landmarks.run(given)
        worst["landmarks px"] = max(worst["landmarks px"], off(joints, lite_landmarks.output(0)))
        odds = [np.log(each / (1 - each)) for each in (presence, lite_landmarks.output(1))]
        worst["presence log odds"] = max(worst["presence log odds"], off(*odds))
    return worst


@torch.inference_mode()
def run(network: TorchNetwork, given: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs of a network on the CPU."""
    return [output.numpy() for output in network(torch.from_numpy(given))]


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference."""
    return float(np.abs(found - expected).max())


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
    print(", ".join(f"{name} {value:.2g}" for name, value in differences.items()), f"(bounds {PIXELS}, {LOGITS})")
    heads = (("pictures", 9), ("hands", 7), ("other counts", 14), ("other hands", 13), ("box, px", 12), ("worst", 11))
    print(" " * 28 + "".join(f"{head:>{width}}" for head, width in (*heads, ("score", 12), ("F1", 8))))
    printed: dict[str, Any] = {}
    same = True
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
                    compared.add(name, found, hands)
                    compared.f1 += score(found, circles) if circles else Figures()
            f1s = f"{compared.f1.f1:8.3f} (LiteRT {sum(truth, Figures()).f1:.3f})" if truth else ""
            print(f"{f'{effort}, {precision}':28}{compared.row()}{f1s}")
            for name in compared.other_counts + compared.other_hands:
                print(f"    {name}")
            printed[f"{effort} {precision}"] = {
                "pictures": compared.pictures, "hands": compared.hands, "other_counts": len(compared.other_counts),
                "other_hands": len(compared.other_hands), "box_px": max(compared.boxes_px, default=0.0), "f1": compared.f1.f1,
            }  # fmt: skip
            same = same and (precision != "float32" or not compared.other_counts + compared.other_hands)
    exact = all(value <= (LOGITS if "odds" in name else PIXELS) for name, value in differences.items())
    print(json.dumps({"bench": "detector_engines", "device": options.device, "numbers": differences, **printed}))
    return 0 if same and exact else 1


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
