"""The embedded hand detector: the palm model on views of the picture, the landmark model on what it found."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.hands.decision import MIN_PALM_SCORE, MIN_PRESENCE, MIN_SCORE, combined_score
from worker.hands.detection import KEYPOINTS, Hands
from worker.hands.geometry import Floats, RotatedSquare, View, clip_boxes
from worker.hands.landmarks import LandmarkModel, Landmarks, square_of_joints, square_of_palm
from worker.hands.merge import cut_by, distinct_hands, group_palms
from worker.hands.models import ModelPaths
from worker.hands.palm import PalmModel, Palms, concatenate
from worker.hands.tiles import views

_SURE_PRESENCE = 0.9
"""A first look at least this sure needs no second one."""

_MIN_PALM_SIDE = 5.0
"""Pixels. Smaller palms are noise: no model sees a hand in so few pixels."""

# Where a hand lies in the landmark model's crop, as x0, y0, x1, y1 in 0..1: the medians over hands that it was sure of.
_HAND_IN_SQUARE = np.array([0.27, 0.22, 0.72, 0.86], np.float32)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A palm that both models have looked at."""

    palm_box: Floats
    square: RotatedSquare
    landmarks: Landmarks
    score: float

    @property
    def trusted(self) -> bool:
        return self.landmarks.presence >= MIN_PRESENCE

    @property
    def hand_box(self) -> Floats:
        """(4,) of the whole hand: from its joints or, where they aren't trusted, from where hands lie in the crop."""
        if self.trusted:
            points = self.landmarks.points
        else:
            x0, y0, x1, y1 = _HAND_IN_SQUARE
            points = self.square.to_image(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32), 1)
        return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)

    @property
    def joints(self) -> Floats:
        """(21, 2), NaN where they aren't trusted."""
        return self.landmarks.points if self.trusted else np.full((KEYPOINTS, 2), np.nan, np.float32)


class PalmLandmarkDetector:
    """Finds hands on a CPU with two small models.

    Safe to share between threads, but they wait for each other: give each thread its own for speed. The models run
    without the interpreter's lock.
    """

    name = "palm"

    def __init__(
        self, models: ModelPaths, *, tiles: int = 2, min_score: float = MIN_SCORE, num_threads: int = 1
    ) -> None:
        """Load the models.

        Args:
            models: The checked model files.
            tiles: Tiles per side that are looked at besides the whole picture; 0 or 1 means none.
            min_score: Hands below this score are left out.
            num_threads: Threads that each model uses.
        """
        if tiles < 0:
            raise ValueError(f"tiles is {tiles}, not 0 or more")
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score is {min_score}, not in 0..1")
        self._palm_model = PalmModel(models.palm, num_threads)
        self._landmark_model = LandmarkModel(models.landmarks, num_threads)
        self._tiles = tiles
        self._min_score = min_score
        self._lock = threading.Lock()

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Find the hands in one picture.

        Args:
            image: (H, W, 3) uint8, BGR, not mirrored.

        Returns:
            The hands, the surest first.

        Raises:
            ValueError: The picture has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"the picture is {image.dtype}{list(image.shape)}, not uint8[H, W, 3]")
        height, width = image.shape[:2]
        with self._lock:
            palms = self._palms(image, views(width, height, self._tiles))
            candidates = [self._examine(image, palms, int(group[0])) for group in group_palms(palms)]
        return _hands([candidate for candidate in candidates if candidate.score >= self._min_score], width, height)

    def _palms(self, image: NDArray[np.uint8], of: list[View]) -> Palms:
        """Find the palms that the views show whole."""
        height, width = image.shape[:2]
        found = []
        for view in of:
            palms = self._palm_model.find(image, view, MIN_PALM_SCORE)
            sides = (palms.boxes[:, 2:] - palms.boxes[:, :2]).max(axis=1, initial=0)
            found.append(palms[~cut_by(view, palms.boxes, width, height) & (sides >= _MIN_PALM_SIDE)])
        return concatenate(found)

    def _examine(self, image: NDArray[np.uint8], palms: Palms, row: int) -> _Candidate:
        """Let the landmark model look at a palm and, unless it is sure, again at where it saw the joints."""
        square = square_of_palm(palms.boxes[row], palms.points[row])
        landmarks = self._landmark_model.look(image, square)
        if landmarks.presence < _SURE_PRESENCE:
            again = self._landmark_model.look(image, square_of_joints(landmarks.points))
            if again.presence > landmarks.presence:
                landmarks = again
        score = combined_score(float(palms.scores[row]), landmarks.presence)
        return _Candidate(palms.boxes[row], square, landmarks, score)


def _hands(candidates: list[_Candidate], width: int, height: int) -> Hands:
    """Make one detection of each hand out of its candidates."""
    if not candidates:
        return Hands.empty()
    joints = np.stack([candidate.joints for candidate in candidates])
    boxes = np.stack([candidate.hand_box for candidate in candidates])
    palm_boxes = np.stack([candidate.palm_box for candidate in candidates])
    scores = np.array([candidate.score for candidate in candidates], np.float32)
    trusted = np.array([candidate.trusted for candidate in candidates])
    # Trusted joints first: they give the better box of a hand that was found twice.
    kept = np.array(distinct_hands(boxes, palm_boxes, joints, np.lexsort((-scores, ~trusted))), np.intp)
    clipped = clip_boxes(boxes, width, height)
    visible = (clipped[kept, 2:] - clipped[kept, :2] >= 1).all(axis=1)
    rows = kept[visible]
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    is_right = np.array([candidate.landmarks.right > 0.5 for candidate in candidates])
    return Hands(boxes=clipped[rows], is_right=is_right[rows], scores=scores[rows], keypoints=joints[rows])
