"""The drawn hands are hands to the detector that the demo counts them with."""

import sys

import pytest

from worker.hands.detector import PalmLandmarkDetector
from worker.hands.models import default_models_dir, ensure_models
from worker.hands.progress import download_progress
from worker.synthetic.camera import SyntheticCamera


@pytest.fixture(scope="module")
def detector() -> PalmLandmarkDetector:
    """The detector as the demo's worker has it."""
    with download_progress(sys.stderr) as progress:
        return PalmLandmarkDetector(ensure_models(default_models_dir(), progress), tiles=1)


@pytest.mark.parametrize("seed", range(6))
def test_the_true_number_is_found(seed: int, detector: PalmLandmarkDetector) -> None:
    """In pictures of different hands, numbers of hands and poses, the detector finds all of them, surely."""
    camera = SyntheticCamera(seed=seed, fps=1.0)
    found = [detector.detect(camera.frame(index)) for index in range(0, 24, 3)]
    assert [len(hands) for hands in found] == [camera.true_hands(index) for index in range(0, 24, 3)]
    assert min((float(hands.scores.min()) for hands in found if len(hands)), default=1.0) > 0.8
