"""HaMeR as a hand detector: refines another detector's hands and drops those that it contradicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worker.hands.detection import HandDetector, Hands

if TYPE_CHECKING:
    from worker.hamer.poses import HandPoses
    from worker.hamer.refiner import HamerRefiner

BACKEND = "hamer"

_CORNER = np.float32(0.5)
"""HaMeR's pixel coordinates have (0, 0) at the centre of the first pixel, those of Hands at its outer corner."""


@dataclass(frozen=True, eq=False)
class PosedHands(Hands):
    """Hands whose keypoints are HaMeR's, with the rest of its output."""

    poses: HandPoses
    """Of the same N hands, in HaMeR's pixel coordinates."""

    def details(self) -> list[dict[str, object]]:
        """Returns what HaMeR adds to the JSON of each hand: 3D joints, camera, and the mesh if there is one."""
        poses = self.poses
        columns: dict[str, list[object]] = {
            "joints_3d": poses.keypoints_3d.round(5).tolist(),
            "camera": poses.cameras.round(5).tolist(),
            "translation": poses.translations.round(5).tolist(),
            "focal": [round(poses.focal, 2)] * len(poses),
        }
        if poses.vertices is not None:
            columns["vertices"] = poses.vertices.round(5).tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class HamerDetector:
    """Finds hands with a detector and refines them. The detectors of all threads share one refiner."""

    def __init__(self, detector: HandDetector, refiner: HamerRefiner, name: str = BACKEND) -> None:
        """Takes the detector that supplies the boxes, the refiner, and the name that results have."""
        self.name = name
        self.engine = detector.engine
        self._detector = detector
        self._refiner = refiner

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Finds the hands in one picture (H, W, 3) uint8 BGR; blocks until their batch is done.

        Raises:
            ValueError: the picture has another shape or type.
            OutOfMemoryError: the device has no memory for even one crop at a time.
        """
        found = self._detector.detect(image)
        seen = Hands(found.boxes - _CORNER, found.is_right, found.scores, found.keypoints - _CORNER)
        refined = self._refiner.refine(image, seen)
        kept = found[refined.source]
        keypoints = (refined.poses.keypoints_2d + _CORNER).astype(np.float32)
        return PosedHands(kept.boxes, kept.is_right, kept.scores, keypoints, poses=refined.poses)
