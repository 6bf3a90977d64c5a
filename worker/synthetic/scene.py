"""Who is in the picture when, and where: the truth that a drawn camera's frames are painted from.

Time is cut into acts of a few seconds. The cast of an act (how many hands, which, how large, on which paths) follows
from the seed and the act's number alone, so that any frame can be known without those before it. In an act the
picture is divided into one column for each hand, and a hand's path keeps all of it inside its column. So hands never
touch, none is cut off by the border, and the true number of hands is certain.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACT_S = 4.0
"""Seconds of an act. The number of hands changes from one to the next only."""

_MAX_TURN = {1: 40.0, 2: 30.0, 3: 12.0}
"""Degrees that a hand may lean, by the number of columns: a hand that leans is wide."""

_MARGIN = 4.0
"""Pixels kept free around a hand, more than the leans between those that were tried can add to its extent."""


@dataclass(frozen=True)
class Pose:
    """Where a sprite stands in one frame."""

    sprite: int
    x: float
    """Of the sprite's centre, pixels; so is y."""
    y: float
    turn: float
    """Degrees, clockwise."""
    scale: float


@dataclass(frozen=True)
class _Wave:
    """A smooth way to and fro."""

    centre: float
    amplitude: float
    period: float
    phase: float

    def at(self, seconds: float) -> float:
        return self.centre + self.amplitude * math.sin(2 * math.pi * (seconds / self.period + self.phase))


@dataclass(frozen=True)
class _Actor:
    sprite: int
    scale: float
    x: _Wave
    y: _Wave
    turn: _Wave

    def pose(self, seconds: float) -> Pose:
        return Pose(self.sprite, self.x.at(seconds), self.y.at(seconds), self.turn.at(seconds), self.scale)


@dataclass(frozen=True)
class Extent:
    """How far a hand reaches from its sprite's centre, over all its leans; pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, outline: NDArray[np.float32], turns: Sequence[float], scale: float = 1.0) -> Extent:
        """Gives the reach of an (N, 2) outline, x to the right and y down, when turned by each of these degrees."""
        around = np.concatenate([turned(outline, turn) for turn in turns]) * scale
        (left, top), (right, bottom) = around.min(axis=0).tolist(), around.max(axis=0).tolist()
        return cls(left, top, right, bottom)


def turned(points: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Turns (N, 2) points clockwise, as seen with y down, around the origin."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    matrix = np.array([[cosine, sine], [-sine, cosine]], np.float32)
    return points @ matrix


class Scene:
    """The acts of one camera."""

    def __init__(
        self,
        seed: int,
        fps: float,
        size: tuple[int, int],
        hands: tuple[int, int],
        outlines: Sequence[NDArray[np.float32]],
    ) -> None:
        self._seed = seed
        self._fps = fps
        self._width, self._height = size
        self._hands = hands
        self._outlines = outlines
        self._act_frames = max(1, round(ACT_S * fps))
        self._last: tuple[int, list[_Actor]] | None = None

    def true_hands(self, index: int) -> int:
        """The number of hands in a frame."""
        act = index // self._act_frames
        return self._rng(act).randint(*self._hands)

    def poses(self, index: int) -> list[Pose]:
        """Where the hands of a frame are."""
        act = index // self._act_frames
        if self._last is None or self._last[0] != act:
            self._last = act, self._cast(act)
        return [actor.pose(index / self._fps) for actor in self._last[1]]

    def _rng(self, act: int) -> random.Random:
        return random.Random(f"{self._seed}/{act}")  # a text is hashed the same way by every Python

    def _cast(self, act: int) -> list[_Actor]:
        rng = self._rng(act)
        count = rng.randint(*self._hands)
        sprites = rng.sample(range(len(self._outlines)), count)
        return [self._actor(rng, sprite, column, count) for column, sprite in enumerate(sprites)]

    def _actor(self, rng: random.Random, sprite: int, column: int, columns: int) -> _Actor:
        swing = rng.uniform(0.2, 0.4) * _MAX_TURN[columns]
        lean = rng.uniform(-1, 1) * (_MAX_TURN[columns] - swing)
        turns = np.linspace(lean - swing, lean + swing, 9).tolist()
        whole = Extent.of(self._outlines[sprite], turns)
        width, height = self._width / columns - 2 * _MARGIN, self._height - 2 * _MARGIN
        wanted = rng.uniform(0.75, 1.2) * min(self._width / 640, self._height / 480)
        scale = min(wanted, 0.9 * width / (whole.right - whole.left), 0.9 * height / (whole.bottom - whole.top))
        x0 = column * self._width / columns + _MARGIN - whole.left * scale
        x1 = (column + 1) * self._width / columns - _MARGIN - whole.right * scale
        y0, y1 = _MARGIN - whole.top * scale, self._height - _MARGIN - whole.bottom * scale
        return _Actor(
            sprite,
            scale,
            _Wave((x0 + x1) / 2, (x1 - x0) / 2, rng.uniform(4, 9), rng.random()),
            _Wave((y0 + y1) / 2, (y1 - y0) / 2, rng.uniform(4, 9), rng.random()),
            _Wave(lean, swing, rng.uniform(3, 7), rng.random()),
        )
