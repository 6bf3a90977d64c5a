"""HaMeR as a hand detector: refines another detector's hands and drops those that it contradicts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worker.hamer.verdicts import Verdict
from worker.hands.detection import Dropped, HandDetector, Hands, KeepingDetector, at_once, submitted
from worker.hands.outputs import REFINED

if TYPE_CHECKING:
    from worker.hamer.poses import HandPoses
    from worker.hamer.refiner import HamerRefiner, RefinedHands
    from worker.hands.networks import Keep, Uploaded

BACKEND = "hamer"

WITH_HAMER = 32
"""How many more pictures are in progress than a detector on a GPU alone keeps: as many as have the hands of a batch."""

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
        alone = at_once(detector)
        self.at_once = 1 if alone == 1 else alone + WITH_HAMER
        self._find: Callable[[NDArray[np.uint8], Keep], Future[Hands]] = (
            detector.submit_keeping
            if isinstance(detector, KeepingDetector)
            else lambda image, _keep: submitted(detector, image)
        )
        self._turn = threading.Lock() if alone == 1 else nullcontext()
        """A picture that is tried again comes from another thread than the next one."""

    def detect(self, image: NDArray[np.uint8]) -> Hands:
        """Does the same as `submit`, and blocks until the hands are refined. Raises what the future would."""
        return self.submit(image).result()

    def submit(self, image: NDArray[np.uint8]) -> Future[Hands]:
        """Lets the hands of one picture (H, W, 3) uint8 BGR be found, and refined in batches with those of other pictures.

        The detector may find them before this returns, as LiteRT does.

        Returns:
            A future of the hands. It fails with OutOfMemoryError if the device has no memory for even one crop at a time.

        Raises:
            ValueError: the picture has another shape or type.
        """
        hands: Future[Hands] = Future()
        kept: list[Uploaded] = []

        def refine(finding: Future[Hands]) -> None:
            try:
                found = finding.result()
                seen = Hands(found.boxes - _CORNER, found.is_right, found.scores, found.keypoints - _CORNER)
                refined = self._refiner.submit(image, seen, kept[0] if kept else None)
                refined.add_done_callback(lambda refining: end(found, refining))
            except Exception as error:
                for uploaded in kept:
                    uploaded.free()
                hands.set_exception(error)

        def end(found: Hands, refining: Future[RefinedHands]) -> None:
            try:
                hands.set_result(posed_hands(found, refining.result()))
            except Exception as error:
                hands.set_exception(error)

        with self._turn:
            finding = self._find(image, kept.append)
        finding.add_done_callback(refine)
        return hands


def posed_hands(found: Hands, refined: RefinedHands) -> PosedHands:
    """Returns those of the hands that were found that HaMeR doesn't contradict, with its joints."""
    kept = found[refined.source]
    keypoints = (refined.poses.keypoints_2d + _CORNER).astype(np.float32)
    return PosedHands(
        kept.boxes, kept.is_right, kept.scores, keypoints,
        poses=refined.poses, found=found, verdicts=refined.verdicts,
    )  # fmt: skip
