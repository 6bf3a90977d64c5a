"""The demo's detector finds the simulated hands."""

import pytest

from worker.hands.detector import PalmLandmarkDetector
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec


@pytest.mark.parametrize("seed", range(6))
def test_the_true_number_is_found(seed: int, fast_detector: PalmLandmarkDetector) -> None:
    """In frames with different hands, numbers of hands and poses, the detector finds all of them with high scores."""
    camera = SyntheticCamera(SyntheticSpec(seed=seed, fps=1.0))
    found = [fast_detector.detect(camera.frame(index)) for index in range(0, 24, 3)]
    assert [len(hands) for hands in found] == [camera.true_hands(index) for index in range(0, 24, 3)]
    assert min((float(hands.scores.min()) for hands in found if len(hands)), default=1.0) > 0.8
