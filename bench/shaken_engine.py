"""LiteRT as another engine within the bounds might be: its inputs and its networks' numbers are off, at random.

If LiteRT itself then finds other hands in a picture, what it finds there hangs on less than the bounds.
"""

import numpy as np
from numpy.typing import NDArray

from bench.detector_engines import LOG_ODDS, PIXELS
from worker.hands.geometry import Floats, RotatedSquare, View
from worker.hands.landmarks import LANDMARKS
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.models import ModelPaths
from worker.hands.networks import Answer, Network, Request, SearchViews
from worker.hands.poses import POSE_JOINTS
from worker.hands.pyramid import Picture, Pyramid

GREY_LEVELS = 1e-4
"""Share of an input's values that are off by one grey level."""


class ShakenEngine(LiteRtEngine):
    """LiteRT within the bounds, differently for each seed."""

    name = "shaken"

    def __init__(self, models: ModelPaths, seed: int) -> None:
        """Takes the checked model files and a seed."""
        super().__init__(models)
        self._random = np.random.default_rng(seed)

    def _answer(self, pyramid: Pyramid, request: Request) -> Answer:
        answer = super()._answer(_ShakenPyramid(pyramid, self._random), request)
        shake = self._shaken_anchors if isinstance(request, SearchViews) else self._shaken_crop
        return [shake(request.network, row) for row in answer]

    def _shaken_anchors(self, _network: Network, rows: Floats) -> Floats:
        """Moves (N, 2 + numbers): number, log odds, pixels."""
        shaken = rows.copy()
        shaken[:, 1] += self._random.uniform(-LOG_ODDS, LOG_ODDS, len(rows))
        shaken[:, 2:] += self._random.uniform(-PIXELS, PIXELS, rows[:, 2:].shape)
        return shaken

    def _shaken_crop(self, network: Network, row: Floats) -> Floats:
        """Moves the landmark model's joints and two probabilities, or the pose model's joints and its flag."""
        if network is LANDMARKS:
            return np.concatenate([self._moved(row[:-2], PIXELS), self._as_likely(row[-2:])])
        joints = row[:-1].reshape(POSE_JOINTS, 5)
        moved = np.concatenate([self._moved(joints[:, :3], PIXELS), self._moved(joints[:, 3:], LOG_ODDS)], axis=1)
        return np.concatenate([moved.reshape(-1), self._as_likely(row[-1:])])

    def _moved(self, numbers: Floats, most: float) -> Floats:
        return (numbers + self._random.uniform(-most, most, numbers.shape)).astype(np.float32)

    def _as_likely(self, probabilities: Floats) -> Floats:
        inside = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
        odds = np.log(inside / (1 - inside)) + self._random.uniform(-LOG_ODDS, LOG_ODDS, inside.shape)
        return (1 / (1 + np.exp(-odds))).astype(np.float32)


class _ShakenPyramid(Pyramid):
    """A picture whose inputs are off by a grey level in a few values."""

    def __init__(self, pyramid: Pyramid, random: np.random.Generator) -> None:
        self._levels = pyramid._levels
        self._random = random

    def letterboxed(self, view: View, size: int) -> Picture:
        return self._shaken(super().letterboxed(view, size))

    def upright(self, square: RotatedSquare, size: int) -> Picture:
        return self._shaken(super().upright(square, size))

    def _shaken(self, picture: Picture) -> NDArray[np.uint8]:
        shaken = picture.reshape(-1).astype(np.int16)
        places = self._random.integers(0, shaken.size, round(GREY_LEVELS * shaken.size))
        shaken[places] += self._random.choice((-1, 1), places.shape).astype(np.int16)
        return np.clip(shaken, 0, 255).astype(np.uint8).reshape(picture.shape)
