"""HaMeR as a hand detector: refines another detector's hands and drops those that it contradicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worker.hamer.verdicts import Verdict
from worker.hands.detection import Dropped, HandDetector, Hands
from worker.hands.outputs import REFINED

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
    found: Hands
    """All that the detector found."""
    verdicts: Sequence[Verdict]
    """Of the hands in `found`."""

    def values(self) -> Mapping[str, NDArray[Any]]:
        """Returns what is known of the hands by the names in the table, HaMeR's values among them."""
        values = dict(super().values())
        for output in REFINED:
            value = getattr(self.poses, output.name)
            if value is not None:
                values[output.name] = value
        return values

    def dropped(self) -> Dropped:
        """Returns the hands that HaMeR contradicts."""
        rows = [row for row, verdict in enumerate(self.verdicts) if verdict is not Verdict.KEPT]
        verdicts = [self.verdicts[row] for row in rows]
        return Dropped(self.found[np.array(rows, np.intp)], verdicts, [verdict.reason for verdict in verdicts])


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
        return PosedHands(
            kept.boxes, kept.is_right, kept.scores, keypoints,
            poses=refined.poses, found=found, verdicts=refined.verdicts,
        )  # fmt: skip
