"""A simulated camera: draws moving hands or people over a textured background, always the same for the same seed."""

from __future__ import annotations

import random

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.synthetic.hand import draw_hand
from worker.synthetic.paste import paste
from worker.synthetic.people import People
from worker.synthetic.scene import Scene
from worker.synthetic.spec import SyntheticSpec

Image = NDArray[np.uint8]

_SPRITES = 4
"""Different hands of a camera. Drawing one takes several milliseconds, so each is drawn once."""


class SyntheticCamera:
    """Draws frames as a function of the specification and the frame's index alone."""

    def __init__(self, spec: SyntheticSpec) -> None:
        """Draws the background, and the sprites if the camera shows hands alone."""
        self._background = background(random.Random(f"{spec.seed}/background"), spec.size)
        self._shown = People(spec) if spec.people else MovingHands(spec)

    def true_hands(self, index: int) -> int:
        """Returns the number of hands in frame `index`, without drawing it."""
        return self._shown.true_hands(index)

    def frame(self, index: int) -> Image:
        """Returns frame `index`: (height, width, 3) uint8, BGR."""
        image = self._background.copy()
        self._shown.draw(image, index)
        return image


class MovingHands:
    """Hands without people: what moves is in the scene, and each hand is one of a few sprites."""

    def __init__(self, spec: SyntheticSpec) -> None:
        rng = random.Random(f"{spec.seed}/sprites")
        self.sprites = [draw_hand(rng) for _ in range(_SPRITES)]
        self.scene = Scene(spec, [sprite.outline for sprite in self.sprites])

    def true_hands(self, index: int) -> int:
        """Returns the number of hands in a frame."""
        return self.scene.true_hands(index)

    def draw(self, image: Image, index: int) -> None:
        """Draws the hands of a frame into it."""
        for pose in self.scene.poses(index):
            paste(image, self.sprites[pose.sprite], pose.x, pose.y, turn=pose.turn, scale=pose.scale)


def background(rng: random.Random, size: tuple[int, int]) -> Image:
    """Returns a wall out of focus: soft blotches and a few panels, in cool colours that differ from any skin's."""
    width, height = size
    noise = np.array([[rng.random() for _ in range(16)] for _ in range(12)], np.float32)
    blotches = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(rng.getrandbits(32)).random((height, width), np.float32)
    base = np.array([rng.uniform(120, 165), rng.uniform(105, 140), rng.uniform(70, 105)], np.float32)
    light = 0.8 + 0.35 * blotches + 0.05 * grain
    planes = [colour * light for colour in base]
    for _ in range(5):
        x, y = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.1, 0.9) * height
        far = (round(x + rng.uniform(0.1, 0.4) * width), round(y + rng.uniform(0.1, 0.5) * height))
        panel = np.s_[max(0, round(y)) : far[1] + 1, max(0, round(x)) : far[0] + 1]
        for plane, tint in zip(planes, base * rng.uniform(0.55, 1.25), strict=True):
            plane[panel] = 0.7 * plane[panel] + 0.3 * tint
    wall: NDArray[np.float32] = cv2.merge(planes)
    return cv2.GaussianBlur(wall, (0, 0), 1.2).clip(0, 255).astype(np.uint8)
