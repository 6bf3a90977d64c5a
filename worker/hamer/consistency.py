"""Compares HaMeR's hand with the detected one. A contradiction drops the detection; none is ever added.

HaMeR reconstructs a plausible hand from any picture, near the middle of the crop. So agreement with the detection
proves little, but disagreement is strong evidence that there is no such hand. Pure functions of arrays. The thresholds
follow from HaMeR's geometry (a consistent hand fills half of its crop), with margins; they weren't tuned on the
official weights.
"""

from dataclasses import dataclass

import numpy as np

from worker.hamer.geometry import ASPECT
from worker.hamer.poses import HandPoses
from worker.hamer.verdicts import Verdict
from worker.hands.geometry import Doubles, iou


@dataclass(frozen=True)
class Thresholds:
    """Where a contradiction begins. Lengths are in sides of the crop unless noted; the box fills half a side.

    Attributes:
        min_overlap: intersection over union of the projected hand's box and the detection's.
        max_offset: distance between the centres of the two.
        min_extent: of the projected hand's longer side.
        max_extent: as `min_extent`.
        max_outside: share of the joints beyond the crop's border.
        max_joint_distance: mean distance to the detector's key points.
        max_beta: largest shape coefficient, in standard deviations.
        min_spread: sine of the angle between the columns of a 6D rotation.
        min_pixels: longer side of the projected hand in pixels of the frame.
        duplicate_distance: two hands whose joints are closer than this on average are one.
        duplicate_overlap: two hands whose boxes overlap more than this (intersection over union) are one.
    """

    min_overlap: float = 0.5
    max_offset: float = 0.15
    min_extent: float = 0.25
    max_extent: float = 0.8
    max_outside: float = 0.2
    max_joint_distance: float = 0.1
    max_beta: float = 5.0
    min_spread: float = 0.02
    min_pixels: float = 8.0
    duplicate_distance: float = 0.1
    duplicate_overlap: float = 0.5


def judge(
    poses: HandPoses,
    boxes: Doubles,
    scores: Doubles,
    keypoints: Doubles,
    frame: tuple[int, int],
    thresholds: Thresholds,
) -> list[Verdict]:
    """Judges the hands of one frame.

    Args:
        poses: HaMeR's N hands.
        boxes: (N, 4) x0, y0, x1, y1 in pixels: the detections.
        scores: (N,) the detector's confidence; of two duplicates the more confident one is kept.
        keypoints: (N, 21, 2) pixels, the detector's own joints in the same order; NaN if it has none.
        frame: width and height in pixels. Detectors clip boxes at the frame's border, so nothing beyond is compared.
        thresholds: where a contradiction begins.

    Returns:
        N verdicts.
    """
    verdicts = [_contradiction(poses, n, box, keypoints[n], frame, thresholds) for n, box in enumerate(boxes)]
    kept: list[int] = []
    for n in sorted(range(len(poses)), key=lambda n: -scores[n]):
        if verdicts[n] is not Verdict.KEPT:
            continue
        if any(_same_hand(poses, boxes, n, other, thresholds) for other in kept):
            verdicts[n] = Verdict.DUPLICATE
        else:
            kept.append(n)
    return verdicts


def _contradiction(
    poses: HandPoses, n: int, box: Doubles, keypoints: Doubles, frame: tuple[int, int], limit: Thresholds
) -> Verdict:
    """Returns the first contradiction that is found, or KEPT."""
    if not poses.finite[n]:
        return Verdict.NOT_FINITE
    scale, depth = poses.cameras[n, 0], poses.translations[n, 2]
    if scale <= 0 or depth <= 0 or np.abs(poses.betas[n]).max() > limit.max_beta or poses.spreads[n] < limit.min_spread:
        return Verdict.IMPLAUSIBLE
    side, joints = poses.crops.sizes[n], poses.keypoints_2d[n]
    hull = np.concatenate([joints.min(axis=0), joints.max(axis=0)])
    if (hull[2:] - hull[:2]).max() < limit.min_pixels:
        return Verdict.TOO_SMALL
    hull, box = (np.clip(b, 0, [*frame, *frame]) for b in (hull, box))
    if np.linalg.norm(hull[:2] + hull[2:] - box[:2] - box[2:]) / 2 > limit.max_offset * side:
        return Verdict.OFF_CENTRE
    width, height = hull[2:] - hull[:2]
    if not limit.min_extent <= max(height, width / ASPECT) / side <= limit.max_extent:
        return Verdict.WRONG_SIZE
    if iou(hull, box) < limit.min_overlap:
        return Verdict.NO_OVERLAP
    if (np.abs(joints - poses.crops.centers[n]).max(axis=1) > side / 2).mean() > limit.max_outside:
        return Verdict.OUTSIDE
    if np.linalg.norm(joints - keypoints, axis=1).mean() > limit.max_joint_distance * side:
        return Verdict.OTHER_JOINTS  # never if the detector has no joints: a comparison with NaN is false
    return Verdict.KEPT


def _same_hand(poses: HandPoses, boxes: Doubles, one: int, other: int, limit: Thresholds) -> bool:
    distance = np.linalg.norm(poses.keypoints_2d[one] - poses.keypoints_2d[other], axis=1).mean()
    side = min(poses.crops.sizes[one], poses.crops.sizes[other])
    shared = iou(boxes[one], boxes[other])
    return bool(distance < limit.duplicate_distance * side or shared > limit.duplicate_overlap)
