"""How well the detector counts in annotated pictures, at each level of effort.

    python -m bench.counting --pictures DIR

DIR has hands.json: {picture: [[x, y, radius], ...]}, x and radius as shares of the picture's width, y of its height. The
pictures lie beside it or in DIR/pictures. Optional: sides.json {picture: ["L" | "R" | "", ...]}, tags.json {picture: [tag,
...]}, and split.json {"A": [picture, ...], "B": [...]}.

The columns: precision, recall and F1 of the boxes; the share of pictures whose count is exact; the mean absolute error of
the count; the share of right sides; boxes in pictures without hands, and how many of these there are. With split.json the
rows "fitted to the other half" have weights and a threshold from one half and figures from the other, both ways together.
CPU time is that of one thread.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from bench.counting_score import HEADER, Box, Circle, Figures, Setting, figures, fit_threshold, fit_weights, match
from worker.detect import read_image
from worker.download import download_progress
from worker.hands.candidate import Candidate, centre
from worker.hands.detector import PalmLandmarkDetector, counted_hands
from worker.hands.duplicates import distinct_hands
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, default_models_dir, ensure_models
from worker.hands.score import Terms, Weights

GROUPING = Weights(palm=0.4, posed=1.0, visibility=0.4, presence=0.4)
"""Unfitted weights by which candidates are grouped before a fit, so that neither half has a part in the other's."""


class Annotated(NamedTuple):
    """A picture and what was found in it."""

    name: str
    circles: Sequence[Circle]
    size: tuple[int, int]
    candidates: Sequence[Candidate]

    def score(self, setting: Setting) -> Figures:
        """Returns the figures of this picture."""
        weights, min_score = setting
        hands = counted_hands(self.candidates, weights, min_score, *self.size)
        middles = (hands.boxes[:, :2] + hands.boxes[:, 2:]) / 2
        boxes = [Box(float(x), float(y), bool(right)) for (x, y), right in zip(middles, hands.is_right, strict=True)]
        return figures(boxes, self.circles)

    def labelled(self) -> list[tuple[Terms, bool]]:
        """Returns what the models say about each distinct hand, and whether it is one."""
        found = distinct_hands(self.candidates, GROUPING)
        found.sort(key=lambda hand: -GROUPING.score(hand.terms))
        boxes = [Box(*centre(hand.best.hand_box).tolist(), hand.best.right) for hand in found]
        return [(hand.terms, i is not None) for hand, i in zip(found, match(boxes, self.circles), strict=True)]


def total(pictures: Sequence[Annotated], setting: Setting) -> Figures:
    """Returns the figures of several pictures."""
    return sum((picture.score(setting) for picture in pictures), Figures())


def crosswise(halves: Sequence[Sequence[Annotated]], *, posed: bool) -> tuple[Figures, list[Setting]]:
    """Fits to each half, and returns the figures of the other halves together, and the fitted settings."""
    settings: list[Setting] = []
    sums = Figures()
    for fitted, held_out in (tuple(halves), tuple(reversed(halves))):
        weights = fit_weights([hand for picture in fitted for hand in picture.labelled()], posed=posed)
        min_score = fit_threshold(lambda min_score, of=fitted, by=weights: total(of, (by, min_score)))  # type: ignore[misc]
        settings.append((weights, min_score))
        sums += total(held_out, settings[-1])
    return sums, settings


def main() -> None:
    """Prints a table for each level, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, metavar="DIR", help="folder with hands.json")
    parser.add_argument("--effort", type=Effort, action="append", choices=list(Effort), help="default: all levels")
    parser.add_argument("--no-fit", action="store_true", help="leave out the rows that are fitted to the other half")
    parser.add_argument("--list", action="store_true", help="list the pictures whose count is wrong")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with download_progress(sys.stderr, TITLE) as progress:
        models = ensure_models(default_models_dir(), progress)
    truth, tags, split = (_read(options.pictures / f"{name}.json") for name in ("hands", "tags", "split"))
    sides = _read(options.pictures / "sides.json")
    printed = {}
    print(f"{len(truth)} pictures, {sum(map(len, truth.values()))} hands")
    print(f"{'':32}{HEADER}{'CPU ms':>9}")
    for effort in options.effort or list(Effort):
        detector = PalmLandmarkDetector(LiteRtEngine(models), effort=effort)
        level, pictures, spent = detector.level, [], 0.0
        for name, circles in truth.items():
            folder = options.pictures / "pictures" if (options.pictures / "pictures").is_dir() else options.pictures
            image = read_image(str(folder / name))
            height, width = image.shape[:2]
            started = time.thread_time()
            candidates = detector.candidates(image)
            spent += time.thread_time() - started
            rows = zip(circles, sides.get(name) or [""] * len(circles), strict=True)
            placed = [Circle(x * width, y * height, radius * width, side) for (x, y, radius), side in rows]
            pictures.append(Annotated(name, placed, (width, height), candidates))
        shipped: Setting = (level.weights, level.min_score)
        ms = spent / max(1, len(pictures)) * 1e3
        everything = total(pictures, shipped)
        print(f"{effort:32}{everything.row()}{ms:9.0f}")
        printed[effort.value] = {"f1": everything.f1, "cpu_ms": ms}
        halves = [[picture for picture in pictures if picture.name in names] for names in split.values()]
        for name, half in zip(split, halves, strict=True):
            print(f"{f'  half {name}':32}{total(half, shipped).row()}")
        if len(halves) == 2 and not options.no_fit:
            crossed, settings = crosswise(halves, posed=bool(level.person_grids))
            print(f"{'  fitted to the other half':32}{crossed.row()}")
            for weights, min_score in settings:
                print(f"    {weights} {min_score}")
            printed[effort.value]["crossed_f1"] = crossed.f1
        for tag in sorted({tag for name in tags for tag in tags[name]}):
            some = [picture for picture in pictures if tag in tags.get(picture.name, ()) and picture.circles]
            if some:
                print(f"{f'  tagged {tag}':32}{total(some, shipped).row()}  {total(some, shipped).hands} hands")
        if options.list:
            for picture in pictures:
                one = picture.score(shipped)
                if one.hits != one.hands or one.boxes != one.hands:
                    print(f"    {picture.name}: {one.hands} hands, {one.boxes} boxes, {one.hits} right")
    print(json.dumps({"bench": "counting", **printed}))


def _read(file: Path) -> dict[str, list]:
    return json.loads(file.read_text()) if file.exists() else {}


if __name__ == "__main__":
    main()
