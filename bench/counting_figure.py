"""What each level of effort finds in one simulated picture; draws docs/figures/counting.jpg.

    python -m bench.counting_figure

Six people, from 420 down to 120 pixels high in a picture of 1280x720, whose twelve hands are known.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import cv2
import numpy as np

from worker.download import download_progress
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.draw import annotate
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, default_models_dir, ensure_models
from worker.picture import Picture
from worker.synthetic.camera import background
from worker.synthetic.person import DrawnHand, Person

FIGURE = Path(__file__).resolve().parent.parent / "docs" / "figures" / "counting.jpg"
SIZE = (1280, 720)
PEOPLE = ((190, 420), (520, 300), (760, 240), (940, 200), (1080, 160), (1200, 120))
"""x and height of each, pixels."""


def picture() -> tuple[Picture, list[DrawnHand]]:
    """Returns the picture and its hands."""
    rng = random.Random(4)
    image = background(rng, SIZE)
    hands: list[DrawnHand] = []
    for x, height in PEOPLE:
        hands += Person(rng).draw(image, x, 640 - 0.3 * (420 - height), height)
    return image, hands


def main() -> None:
    """Writes the figure; prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where to write the picture")
    options = parser.parse_args()
    with download_progress(sys.stderr, TITLE) as progress:
        models = ensure_models(default_models_dir(), progress)
    image, hands = picture()
    panels, counts = [], {}
    for effort in Effort:
        found = PalmLandmarkDetector(LiteRtEngine(models), effort=effort).detect(image)
        counts[effort.value] = len(found)
        print(f"{effort:10} {len(found)} of {len(hands)} hands")
        panel = annotate(image, found, skeletons=False)
        cv2.putText(panel, effort.value, (20, 700), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 2, cv2.LINE_AA)
        panels.append(panel[200:])
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    options.figure.write_bytes(cv2.imencode(".jpg", np.vstack(panels), (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes())
    print(json.dumps({"bench": "counting_figure", "hands": len(hands), **counts}))


if __name__ == "__main__":
    main()
