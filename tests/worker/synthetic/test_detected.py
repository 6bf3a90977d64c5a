"""The demo's detector finds the simulated hands."""

import functools
import random

import numpy as np
import pytest

from worker.hands.detector import PalmLandmarkDetector
from worker.picture import Picture
from worker.synthetic.camera import SyntheticCamera, background
from worker.synthetic.person import DrawnHand, Person
from worker.synthetic.spec import SyntheticSpec


@pytest.mark.parametrize("seed", range(4))
def test_the_true_number_is_found(seed: int, fast_detector: PalmLandmarkDetector) -> None:
    """In frames with different hands, numbers of hands and poses, the detector finds all of them with high scores."""
    camera = SyntheticCamera(SyntheticSpec(seed=seed, fps=1.0))
    found = [fast_detector.detect(camera.frame(index)) for index in range(0, 24, 6)]
    assert [len(hands) for hands in found] == [camera.true_hands(index) for index in range(0, 24, 6)]
    assert min((float(hands.scores.min()) for hands in found if len(hands)), default=1.0) > 0.8


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_true_number_is_found_of_whole_people(seed: int, fast_detector: PalmLandmarkDetector) -> None:
    """So it does in whole-body views of up to two people."""
    camera = SyntheticCamera(SyntheticSpec(seed=seed, fps=1.0, people=(0, 2)))
    found = [fast_detector.detect(camera.frame(index)) for index in range(0, 32, 8)]
    assert [len(hands) for hands in found] == [camera.true_hands(index) for index in range(0, 32, 8)]


@pytest.mark.slow
@pytest.mark.parametrize("height", [300, 180, 120])
def test_far_views(height: int, thorough_detector: PalmLandmarkDetector) -> None:
    """In pictures of 1280x720, `thorough` finds at least 11 of the 12 hands of people this high, and few others."""
    right = counted = 0
    for seed in range(2):
        image, true = people(seed, height)
        hands = thorough_detector.detect(image)
        middles = (hands.boxes[:, :2] + hands.boxes[:, 2:]) / 2
        counted += len(hands)
        right += sum(any(np.hypot(x - hand.x, y - hand.y) < hand.radius for x, y in middles) for hand in true)
    assert right >= 11
    assert counted <= 13


def people(seed: int, height: float) -> tuple[Picture, list[DrawnHand]]:
    """Returns a picture of three people of a height in pixels, and their hands."""
    wall, standing = crowd(seed)
    image = wall.copy()
    return image, [hand for person, x, feet in standing for hand in person.draw(image, x, feet, height)]


@functools.cache
def crowd(seed: int) -> tuple[Picture, list[tuple[Person, float, float]]]:
    """Returns a background, and three people with the place of each: x, and y of the feet."""
    rng = random.Random(seed)
    wall = background(rng, (1280, 720))
    return wall, [
        (Person(rng), 320 * column + rng.uniform(-20, 20), 720 * rng.uniform(0.85, 0.97)) for column in (1, 2, 3)
    ]
