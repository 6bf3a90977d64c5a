"""The landmark model: whether an upright crop shows a hand, which hand it is, and where its joints are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.hands.geometry import Floats, RotatedSquare, upward_angle
from worker.hands.networks import CropNetwork, ReadCrops, Steps
from worker.hands.outputs import KEYPOINTS
from worker.hands.palm import JOINT_OF_POINT, MIDDLE_KNUCKLE, WRIST

LANDMARK_INPUT = 224
"""Side of the landmark model's square input, in pixels."""

LANDMARKS = CropNetwork("landmarks", size=LANDMARK_INPUT, scale=1 / 255, offset=0.0, outputs=(0, 1, 2))
"""The landmark model: joints in the crop, presence, side. Its other output is joints in metres."""

_PALM_TO_HAND = 2.6
"""Side of a hand with stretched fingers, in sides of the palm's box; the model was trained on such crops."""
_PALM_TO_HAND_SHIFT = 0.5
"""Distance of the hand's centre from the palm's, towards the fingers, in sides of the palm's box."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmark model's output for one crop."""

    presence: float
    """Probability that the crop shows a hand, 0 to 1. For gloved and half hidden hands it is often close to 0."""
    right: float
    """Probability that it is the person's own (anatomical) right hand, if the picture isn't mirrored."""
    points: Floats
    """(21, 2) the joints in the picture's pixels; they may be outside the picture."""


def square_of_palm(box: Floats, points: Floats) -> RotatedSquare:
    """Returns the crop for a palm: rotated so that the fingers point up, and large enough for them.

    Args:
        box: (4,) the palm's box.
        points: (7, 2) the palm's points.
    """
    angle = upward_angle(points[WRIST], points[MIDDLE_KNUCKLE])
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    # The shift of the model's authors: by the box's height along the hand, not by its longer side.
    shift = _PALM_TO_HAND_SHIFT * height
    return RotatedSquare(
        x=float(box[0] + box[2]) / 2 + shift * np.sin(angle),
        y=float(box[1] + box[3]) / 2 - shift * np.cos(angle),
        side=_PALM_TO_HAND * max(width, height),
        angle=angle,
    )


def square_of_joints(joints: Floats) -> RotatedSquare:
    """Returns the crop for (21, 2) known joints, for a second run."""
    knuckles = (joints[5] + 2 * joints[9] + joints[13]) / 4
    angle = upward_angle(joints[0], knuckles)
    upright = RotatedSquare(0.0, 0.0, 1.0, angle)
    turned = upright.from_image(joints, 1)
    low, high = turned.min(axis=0), turned.max(axis=0)
    size = float((high - low).max())
    centre = upright.to_image((low + high) / 2, 1)
    return RotatedSquare(
        x=float(centre[0]) + 0.1 * size * np.sin(angle),
        y=float(centre[1]) - 0.1 * size * np.cos(angle),
        side=2.0 * size,
        angle=angle,
    )


def distance_to_palm(joints: Floats, box: Floats, points: Floats) -> float:
    """Returns the mean distance of (21, 2) joints from a palm's (7, 2) points, in sides of its (4,) box."""
    side = float((box[2:] - box[:2]).max())
    return float(np.linalg.norm(joints[list(JOINT_OF_POINT)] - points, axis=1).mean()) / side


def read_landmarks(squares: Sequence[RotatedSquare]) -> Steps[list[Landmarks]]:
    """Returns what the landmark model says about each rotated square of the picture."""
    rows = (yield ReadCrops(LANDMARKS, squares)) if squares else ()
    return [_landmarks(row, square) for row, square in zip(rows, squares, strict=True)]


def _landmarks(row: Floats, square: RotatedSquare) -> Landmarks:
    *_, presence, right = (
        row.tolist()
    )  # the model's authors call the last one "left", for a picture mirrored like a selfie
    joints = row[:-2].reshape(KEYPOINTS, 3)[:, :2]
    return Landmarks(presence=presence, right=right, points=square.to_image(joints, LANDMARK_INPUT))
