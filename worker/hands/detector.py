"""The embedded hand detector: persons and their poses, palms, looks at each place, and one score for each hand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worker.hands.candidate import Candidate
from worker.hands.crops import palm_views
from worker.hands.detection import KEYPOINTS, Hands
from worker.hands.duplicates import distinct_hands
from worker.hands.effort import LEVELS, Effort
from worker.hands.geometry import RotatedSquare, View, clip_boxes
from worker.hands.join import join, side_of
from worker.hands.landmarks import LandmarkModel, Landmarks
from worker.hands.looks import deserves_look, look_at_palm, look_at_posed_hand
from worker.hands.models import ModelPaths
from worker.hands.palm import PalmModel
from worker.hands.persons import PersonModel
from worker.hands.poses import MIN_FLAG, PosedHand, PoseModel, posed_hands, square_of_person
from worker.hands.pyramid import Pyramid
from worker.hands.score import Weights
from worker.hands.views import grid_views


class PalmLandmarkDetector:
    """Finds hands on a CPU with four small models.

    Threads may share an instance, but then they wait for each other; for speed each thread has its own. The models run
    without the interpreter's lock.
    """

    def __init__(
        self,
        models: ModelPaths,
        *,
        effort: Effort = Effort.BALANCED,
        min_score: float | None = None,
        num_threads: int = 1,
    ) -> None:
        """Loads the models that the effort needs.

        Args:
            models: the checked model files.
            effort: how much work is done for a picture.
            min_score: hands below this score are dropped; None means the effort's own threshold.
            num_threads: threads that each model uses.
        """
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be in 0..1, got {min_score}")
        self.name = f"palm-{effort}"
        self.level = LEVELS[effort]
        self._min_score = self.level.min_score if min_score is None else min_score
        self._palms = PalmModel(models.palm, num_threads)
        self._landmarks = LandmarkModel(models.landmarks, num_threads)
        self._persons = PersonModel(models.persons, num_threads) if self.level.person_grids else None
        self._poses = PoseModel(models.pose, num_threads) if self.level.person_grids else None
        self._lock = threading.Lock()

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Finds the hands in one picture.

        Args:
            image: (H, W, 3) uint8, BGR, not mirrored.

        Returns:
            The hands, highest score first.

        Raises:
            ValueError: the picture has another shape or type.
        """
        candidates = self.candidates(image)
        height, width = image.shape[:2]
        return counted_hands(candidates, self.level.weights, self._min_score, width, height)

    def candidates(self, image: NDArray[np.uint8]) -> list[Candidate]:
        """Returns everything in a picture that may be a hand, with what each model says; often several per hand.

        Raises:
            ValueError: the picture has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"the picture must be uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
        with self._lock:
            pyramid = Pyramid(image)
            bodies, posed = self._posed(pyramid)
            palms = self._palms.search(pyramid, self._palm_views(pyramid, bodies, posed), self.level.min_palm)

            def look(square: RotatedSquare) -> Landmarks:
                return self._landmarks.run(pyramid, square)

            found = [
                look_at_palm(look, box, points, palm)
                for box, points, palm in zip(palms.boxes, palms.points, palms.scores.tolist(), strict=True)
                if deserves_look(box, palm, posed, alone=self.level.min_palm_alone)
            ]
            joined = join(found, posed)
            unused = [hand for column, hand in enumerate(posed) if column not in joined]
            return [
                palm if column is None else _confirmed(palm, posed[column])
                for palm, column in zip(found, joined, strict=True)
            ] + [look_at_posed_hand(look, hand) for hand in unused]

    def _posed(self, pyramid: Pyramid) -> tuple[list[RotatedSquare], list[PosedHand]]:
        """Returns the crops of the persons in the picture that have a pose, and their hands."""
        if self._persons is None or self._poses is None:
            return [], []
        persons = self._persons.search(pyramid, _views(pyramid, self.level.person_grids))
        squares = [square_of_person(points) for points in persons.points]
        poses = [self._poses.run(pyramid, square) for square in squares]
        bodies = [square for square, pose in zip(squares, poses, strict=True) if pose.flag >= MIN_FLAG]
        return bodies, posed_hands(poses)

    def _palm_views(self, pyramid: Pyramid, bodies: Sequence[RotatedSquare], posed: Sequence[PosedHand]) -> list[View]:
        if not self.level.crops:
            return _views(pyramid, self.level.palm_grids)
        return palm_views(pyramid.width, pyramid.height, self.level.palm_grids, bodies, posed)


def _confirmed(palm: Candidate, hand: PosedHand) -> Candidate:
    """Returns a palm that a posed hand confirms."""
    return replace(palm, visibility=hand.visibility, right=side_of(palm, hand))


def _views(pyramid: Pyramid, grids: tuple[int, ...]) -> list[View]:
    return [view for grid in grid_views(pyramid.width, pyramid.height, grids) for view in grid]


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
