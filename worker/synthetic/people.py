"""The people in a whole-body view of a simulated camera, and where they are: like worker/synthetic/scene.py for hands.

Each person keeps to one column of the picture, faces the camera and shows both hands, so the true number of hands is twice
that of the people.
"""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray

from worker.synthetic.person import Person
from worker.synthetic.scene import SEGMENT_S
from worker.synthetic.spec import SyntheticSpec

_REACH = 0.43
"""How far a person's hands reach to a side, in the person's height."""

_MARGIN = 4.0
"""Pixels kept free at each side of a column."""

_SWAY = 0.02
"""How far a person sways to a side, in the person's height."""


class People:
    """The people of one camera over time."""

    def __init__(self, spec: SyntheticSpec) -> None:
        """Draws nobody yet. The specification says how many people there are."""
        assert spec.people is not None
        self._seed = spec.seed
        self._fps = spec.fps
        self._width, self._height = spec.size
        self._people = spec.people
        self._segment_frames = max(1, round(SEGMENT_S * spec.fps))
        self._last: tuple[int, list[Person]] | None = None

    def true_hands(self, index: int) -> int:
        """Returns the number of hands in a frame."""
        return 2 * self._number(self._rng(index // self._segment_frames))

    def draw(self, image: NDArray[np.uint8], index: int) -> None:
        """Draws the people of a frame into it."""
        segment = index // self._segment_frames
        rng = self._rng(segment)
        number = self._number(rng)
        if self._last is None or self._last[0] != segment:
            self._last = segment, [Person(random.Random(f"{self._seed}/{segment}/{i}")) for i in range(number)]
        column = self._width / max(1, number)
        for i, person in enumerate(self._last[1]):
            height = min(0.9 * self._height, (column / 2 - _MARGIN) / (_REACH + _SWAY)) * rng.uniform(0.9, 1.0)
            turn = 2 * math.pi * (index / self._fps / rng.uniform(3, 6) + rng.random())
            feet = self._height - _MARGIN - rng.uniform(0, 0.95 * self._height - height)
            person.draw(image, (i + 0.5) * column + _SWAY * height * math.sin(turn), feet, height)

    def _rng(self, segment: int) -> random.Random:
        return random.Random(f"{self._seed}/people/{segment}")

    def _number(self, rng: random.Random) -> int:
        return rng.randint(*self._people)
