"""HaMeR as a hand detector: another detector's hands, refined, and only those that HaMeR doesn't contradict."""

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
"""From a pixel's centre, where HaMeR has (0, 0), to its outer corner, where Hands has it."""


@dataclass(frozen=True, eq=False)
class PosedHands(Hands):
    """Hands whose keypoints are HaMeR's, with all that HaMeR says of them."""

    poses: HandPoses
    """Of the same N hands; its pixels have (0, 0) at the centre of the first one."""

    def details(self) -> list[dict[str, object]]:
        """Gives what the JSON of each hand has besides the detector's: joints, camera, and the mesh if there is one."""
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
    """Finds hands with a detector and refines them. As many of these as there are threads share one refiner."""

    name = BACKEND

    def __init__(self, detector: HandDetector, refiner: HamerRefiner) -> None:
        """Takes what finds the hands, and what refines them."""
        self._detector = detector
        self._refiner = refiner

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Finds the hands in one picture (H, W, 3) uint8 BGR; waits until the batch is done that they travel in.

        Raises:
            ValueError: The picture has another shape or type.
            OutOfMemoryError: Not even one crop at a time fits into the device's memory.
        """
        found = self._detector.detect(image)
        seen = Hands(found.boxes - _CORNER, found.is_right, found.scores, found.keypoints - _CORNER)
        refined = self._refiner.refine(image, seen)
        kept = found[refined.source]
        keypoints = (refined.poses.keypoints_2d + _CORNER).astype(np.float32)
        return PosedHands(kept.boxes, kept.is_right, kept.scores, keypoints, poses=refined.poses)
