"""Which hands are in a simulated camera's frames, and where: the truth from which the frames are drawn.

Time is divided into segments of a few seconds. The hands of a segment (how many, which sprites, sizes and paths) depend
on the seed and the segment's number alone, so any frame can be drawn without those before it. The picture is divided
into one column for each hand of the segment, and a hand's path keeps all of it inside its column. So hands never touch,
the border cuts none off, and the true number of hands is certain.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.synthetic.spec import SyntheticSpec

SEGMENT_S = 4.0
"""Seconds of a segment. The number of hands changes only from one segment to the next."""

_MAX_TURN = {1: 40.0, 2: 30.0, 3: 12.0}
"""Largest lean of a hand in degrees, by the number of columns: a leaning hand is wide."""

_MARGIN = 4.0
"""Pixels kept free around a hand: more than leans between the sampled ones can add to its extent."""


@dataclass(frozen=True)
class Pose:
    """A sprite's place in one frame."""

    sprite: int
    x: float
    """Of the sprite's centre, pixels; so is y."""
    y: float
    turn: float
    """Degrees, clockwise."""
    scale: float


@dataclass(frozen=True)
class _Wave:
    """A sinusoidal motion."""

    centre: float
    amplitude: float
    period: float
    phase: float

    def at(self, seconds: float) -> float:
        return self.centre + self.amplitude * math.sin(2 * math.pi * (seconds / self.period + self.phase))


@dataclass(frozen=True)
class _MovingHand:
    sprite: int
    scale: float
    x: _Wave
    y: _Wave
    turn: _Wave

    def pose(self, seconds: float) -> Pose:
        return Pose(self.sprite, self.x.at(seconds), self.y.at(seconds), self.turn.at(seconds), self.scale)


@dataclass(frozen=True)
class Extent:
    """How far a hand reaches from its sprite's centre, over all of its leans; pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, outline: NDArray[np.float32], turns: Sequence[float], scale: float = 1.0) -> Extent:
        """Returns the extent of an (N, 2) outline, x to the right and y down, over rotations by these degrees."""
        around = np.concatenate([rotated(outline, turn) for turn in turns]) * scale
        (left, top), (right, bottom) = around.min(axis=0).tolist(), around.max(axis=0).tolist()
        return cls(left, top, right, bottom)


def rotated(points: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Rotates (N, 2) points around the origin, clockwise with y down."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    matrix = np.array([[cosine, sine], [-sine, cosine]], np.float32)
    return points @ matrix


class Scene:
    """The hands of one camera over time."""

    def __init__(self, spec: SyntheticSpec, outlines: Sequence[NDArray[np.float32]]) -> None:
        """Takes the camera's specification and its sprites' outlines (N, 2), relative to their centres."""
        self._seed = spec.seed
        self._fps = spec.fps
        self._width, self._height = spec.size
        self._hands = spec.hands
        self._outlines = outlines
        self._segment_frames = max(1, round(SEGMENT_S * spec.fps))
        self._last: tuple[int, list[_MovingHand]] | None = None

    def true_hands(self, index: int) -> int:
        """Returns the number of hands in a frame."""
        segment = index // self._segment_frames
        return self._rng(segment).randint(*self._hands)

    def poses(self, index: int) -> list[Pose]:
        """Returns the places of a frame's hands."""
        segment = index // self._segment_frames
        if self._last is None or self._last[0] != segment:
            self._last = segment, self._hands_of(segment)
        return [hand.pose(index / self._fps) for hand in self._last[1]]

    def _rng(self, segment: int) -> random.Random:
        return random.Random(f"{self._seed}/{segment}")  # a text seeds every Python alike

    def _hands_of(self, segment: int) -> list[_MovingHand]:
        rng = self._rng(segment)
        count = rng.randint(*self._hands)
        sprites = rng.sample(range(len(self._outlines)), count)
        return [self._moving_hand(rng, sprite, column, count) for column, sprite in enumerate(sprites)]

    def _moving_hand(self, rng: random.Random, sprite: int, column: int, columns: int) -> _MovingHand:
        swing = rng.uniform(0.2, 0.4) * _MAX_TURN[columns]
        lean = rng.uniform(-1, 1) * (_MAX_TURN[columns] - swing)
        turns = np.linspace(lean - swing, lean + swing, 9).tolist()
        whole = Extent.of(self._outlines[sprite], turns)
        width, height = self._width / columns - 2 * _MARGIN, self._height - 2 * _MARGIN
        preferred = rng.uniform(0.75, 1.2) * min(self._width / 640, self._height / 480)
        scale = min(preferred, 0.9 * width / (whole.right - whole.left), 0.9 * height / (whole.bottom - whole.top))
        x0 = column * self._width / columns + _MARGIN - whole.left * scale
        x1 = (column + 1) * self._width / columns - _MARGIN - whole.right * scale
        y0, y1 = _MARGIN - whole.top * scale, self._height - _MARGIN - whole.bottom * scale
        return _MovingHand(
            sprite,
            scale,
            _Wave((x0 + x1) / 2, (x1 - x0) / 2, rng.uniform(4, 9), rng.random()),
            _Wave((y0 + y1) / 2, (y1 - y0) / 2, rng.uniform(4, 9), rng.random()),
            _Wave(lean, swing, rng.uniform(3, 7), rng.random()),
        )
