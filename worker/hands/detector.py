"""The embedded hand detector: the palm model on views of the picture, then the landmark model on each palm."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from worker.hands.decision import MIN_PALM_SCORE, MIN_PRESENCE, MIN_SCORE, combined_score
from worker.hands.detection import KEYPOINTS, Hands
from worker.hands.geometry import View, clip_boxes
from worker.hands.landmarks import LandmarkModel, Landmarks, distance_to_palm, square_of_joints, square_of_palm
from worker.hands.merge import Detection, cut_by, distinct_hands, group_palms
from worker.hands.models import ModelPaths
from worker.hands.palm import PalmModel, Palms, concatenate
from worker.hands.tiles import views

_SURE_PRESENCE = 0.9
"""From this presence on, a palm isn't examined a second time."""

_MIN_PALM_SIDE = 5.0
"""Pixels. Smaller palms are noise: neither model recognises a hand in so few pixels."""

_MAX_DRIFT = 0.8
"""A second result is about another hand if its joints are farther from the palm than this, in sides of the palm."""

# The corners of a hand's box in the landmark model's crop: medians over hands with a high presence.
_HAND_IN_SQUARE = np.array([[0.27, 0.22], [0.72, 0.22], [0.72, 0.86], [0.27, 0.86]], np.float32)


class PalmLandmarkDetector:
    """Finds hands on a CPU with two small models.

    Threads may share an instance, but then they wait for each other; for speed each thread has its own. The models run
    without the interpreter's lock.
    """

    name = "palm"

    def __init__(
        self, models: ModelPaths, *, tiles: int = 2, min_score: float = MIN_SCORE, num_threads: int = 1
    ) -> None:
        """Loads the models.

        Args:
            models: the checked model files.
            tiles: tiles per side that are searched besides the whole picture; 0 or 1 means none.
            min_score: hands below this score are dropped.
            num_threads: threads that each model uses.
        """
        if tiles < 0:
            raise ValueError(f"tiles must be 0 or more, got {tiles}")
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be in 0..1, got {min_score}")
        self._palm_model = PalmModel(models.palm, num_threads)
        self._landmark_model = LandmarkModel(models.landmarks, num_threads)
        self._tiles = tiles
        self._min_score = min_score
        self._lock = threading.Lock()

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Finds the hands in one picture.

        Args:
            image: (H, W, 3) uint8, BGR, not mirrored.

        Returns:
            The hands, the surest first.

        Raises:
            ValueError: the picture has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"the picture must be uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
        height, width = image.shape[:2]
        with self._lock:
            palms = self._palms(image, views(width, height, self._tiles))
            examined = [self._examine(image, palms, int(group[0])) for group in group_palms(palms)]
        likely = [(found, landmarks) for found, landmarks in examined if found.score >= self._min_score]
        return _hands([likely[row] for row in distinct_hands([found for found, _ in likely])], width, height)

    def _palms(self, image: NDArray[np.uint8], searched: list[View]) -> Palms:
        """Finds the palms that are completely inside a view."""
        height, width = image.shape[:2]
        found = []
        for view in searched:
            palms = self._palm_model.find(image, view, MIN_PALM_SCORE)
            sides = (palms.boxes[:, 2:] - palms.boxes[:, :2]).max(axis=1, initial=0)
            found.append(palms[~cut_by(view, palms.boxes, width, height) & (sides >= _MIN_PALM_SIDE)])
        return concatenate(found)

    def _examine(self, image: NDArray[np.uint8], palms: Palms, row: int) -> tuple[Detection, Landmarks]:
        """Runs the landmark model on a palm and, unless the presence is high, again on the joints that it found."""
        box, points = palms.boxes[row], palms.points[row]
        square = square_of_palm(box, points)
        landmarks = self._landmark_model.run(image, square)
        if landmarks.presence < _SURE_PRESENCE:
            again = self._landmark_model.run(image, square_of_joints(landmarks.points))
            if again.presence > landmarks.presence and distance_to_palm(again.points, box, points) < _MAX_DRIFT:
                landmarks = again
        trusted = landmarks.presence >= MIN_PRESENCE
        outline = landmarks.points if trusted else square.to_image(_HAND_IN_SQUARE, 1)
        found = Detection(
            palm_box=box,
            palm_score=float(palms.scores[row]),
            hand_box=np.concatenate([outline.min(axis=0), outline.max(axis=0)]).astype(np.float32),
            joints=landmarks.points if trusted else None,
            score=combined_score(float(palms.scores[row]), landmarks.presence),
        )
        return found, landmarks


def _hands(found: list[tuple[Detection, Landmarks]], width: int, height: int) -> Hands:
    """Converts detections of different hands to arrays, the surest first, without those outside the picture."""
    unknown = np.full((KEYPOINTS, 2), np.nan, np.float32)
    boxes = clip_boxes(np.array([one.hand_box for one, _ in found], np.float32).reshape(-1, 4), width, height)
    scores = np.array([one.score for one, _ in found], np.float32)
    order = np.argsort(-scores, kind="stable")
    rows = order[(boxes[order, 2:] - boxes[order, :2] >= 1).all(axis=1)]
    joints = [unknown if one.joints is None else one.joints for one, _ in found]
    return Hands(
        boxes=boxes[rows],
        is_right=np.array([landmarks.right > 0.5 for _, landmarks in found], np.bool_)[rows],
        scores=scores[rows],
        keypoints=np.array(joints, np.float32).reshape(-1, KEYPOINTS, 2)[rows],
    )
