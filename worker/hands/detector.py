"""The embedded hand detector: a search with the networks of an engine, and one score for each hand."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from worker.hands.candidate import Candidate
from worker.hands.detection import Hands
from worker.hands.duplicates import distinct_hands
from worker.hands.effort import LEVELS, Effort
from worker.hands.geometry import clip_boxes
from worker.hands.networks import Engine, Keep, Steps
from worker.hands.outputs import KEYPOINTS
from worker.hands.score import Weights
from worker.hands.search import networks_of, search


class PalmLandmarkDetector:
    """Finds hands with four small networks. Threads may share an instance if they may share its engine."""

    def __init__(self, engine: Engine, *, effort: Effort = Effort.BALANCED, min_score: float | None = None) -> None:
        """Loads the networks that the effort needs.

        Args:
            engine: runs the networks.
            effort: how much work is done for a picture.
            min_score: hands below this score are dropped; None means the effort's own threshold.
        """
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be in 0..1, got {min_score}")
        self.name = f"palm-{effort}"
        self.engine = engine.name
        self.at_once = engine.at_once
        self.level = LEVELS[effort]
        self._min_score = self.level.min_score if min_score is None else min_score
        self._engine = engine
        engine.prepare(networks_of(self.level))

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Finds the hands in one picture.

        Args:
            image: (H, W, 3) uint8, BGR, not mirrored.

        Returns:
            The hands, highest score first.

        Raises:
            ValueError: the picture has another shape or type.
        """
        return self.submit(image).result()

    def submit(self, image: NDArray[np.uint8]) -> Future[Hands]:
        """Lets the hands in one picture be found, by an engine that works on several pictures beside others.

        Args and errors are those of `detect`; see :class:`worker.hands.detection.BatchingDetector`.
        """
        return self.submit_keeping(image, None)

    def submit_keeping(self, image: NDArray[np.uint8], keep: Keep | None) -> Future[Hands]:
        """Does the same, and passes on the picture's copy on the device; see :meth:`worker.hands.networks.Engine.run`."""
        _check(image)
        height, width = image.shape[:2]
        return self._engine.run(image, self._hands(width, height), keep)

    def candidates(self, image: NDArray[np.uint8]) -> list[Candidate]:
        """Returns everything in a picture that may be a hand, with what each model says; often several per hand.

        Raises:
            ValueError: the picture has another shape or type.
        """
        _check(image)
        height, width = image.shape[:2]
        return self._engine.run(image, search(width, height, self.level)).result()

    def _hands(self, width: int, height: int) -> Steps[Hands]:
        candidates = yield from search(width, height, self.level)
        return counted_hands(candidates, self.level.weights, self._min_score, width, height)


def _check(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"the picture must be uint8[H, W, 3], got {image.dtype}{list(image.shape)}")


def counted_hands(
    candidates: Sequence[Candidate], weights: Weights, min_score: float, width: int, height: int
) -> Hands:
    """Returns each hand of the candidates once, highest score first, without those outside the picture.

    Args:
        candidates: of one picture.
        weights: of what the models say.
        min_score: hands below this score are dropped.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    scored = [(hand.best, weights.score(hand.terms)) for hand in distinct_hands(candidates, weights)]
    found = [(hand, score) for hand, score in scored if score >= min_score]
    unknown = np.full((KEYPOINTS, 2), np.nan, np.float32)
    boxes = clip_boxes(np.array([hand.hand_box for hand, _ in found], np.float32).reshape(-1, 4), width, height)
    scores = np.array([score for _, score in found], np.float32)
    order = np.argsort(-scores, kind="stable")
    rows = order[(boxes[order, 2:] - boxes[order, :2] >= 1).all(axis=1)]
    joints = [unknown if hand.joints is None else hand.joints for hand, _ in found]
    return Hands(
        boxes=boxes[rows],
        is_right=np.array([hand.right for hand, _ in found], np.bool_)[rows],
        scores=scores[rows],
        keypoints=np.array(joints, np.float32).reshape(-1, KEYPOINTS, 2)[rows],
    )
