"""Annotated pictures of simulated people, as a worker's previews show them."""

import functools
import sys
from typing import NamedTuple

from worker.download import download_progress
from worker.hands.detector import PalmLandmarkDetector
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import TITLE, default_models_dir, ensure_models
from worker.preview import encode
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec

SIZE = (640, 400)


class Shown(NamedTuple):
    """A preview and the number of hands in it."""

    jpeg: bytes
    hands: int


@functools.cache
def pictures(number: int) -> list[Shown]:
    """Returns previews of so many different scenes, with the hands that the detector finds."""
    with download_progress(sys.stderr, TITLE) as progress:
        detector = PalmLandmarkDetector(LiteRtEngine(ensure_models(default_models_dir(), progress)))
    found = []
    for seed in range(number):
        people = 1 + seed % 2
        picture = SyntheticCamera(SyntheticSpec(seed=seed, people=(people, people), size=SIZE)).frame(10)
        hands = detector.detect(picture)
        found.append(Shown(encode(picture, hands), len(hands)))
    return found
