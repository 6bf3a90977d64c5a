"""The pose model: a person's joints, and from these where the hands are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worker.hands.geometry import Floats, RotatedSquare, upward_angle
from worker.hands.networks import CropNetwork, ReadCrops, Steps
from worker.hands.persons import BODY_SCALE, HIPS

POSE_INPUT = 256
"""Side of the pose model's square input, in pixels."""

POSE_JOINTS = 39
"""Joints of a pose; the last six are auxiliary."""

POSES = CropNetwork("pose", size=POSE_INPUT, scale=1 / 255, offset=0.0, outputs=(0, 1))
"""The pose model. Its other outputs are a mask, heat maps, and joints in metres."""


class Arm(NamedTuple):
    """Rows of a pose's joints on one side of the body."""

    elbow: int
    wrist: int
    little_knuckle: int
    index_knuckle: int
    right: bool
    """The person's own right side."""


ARMS = (Arm(13, 15, 17, 19, right=False), Arm(14, 16, 18, 20, right=True))

MIN_FLAG = 0.5
"""Below this the crop shows no person, by the pose model's own flag."""

MIN_VISIBILITY = 0.3
"""Hands below this are hidden or outside the picture: the model guesses where they would be."""

_BODY_TO_SQUARE = 2.5
"""Side of the crop around a person, in distances from the hip centre to the point that says how far the body reaches: a
circle through that point, and a quarter more; the model was trained on such crops."""

_KNUCKLES_TO_HAND, _FOREARM_TO_HAND = 2.2, 0.55
"""Size of a hand in distances from the wrist to the knuckles, and in lengths of the forearm. The larger of the two counts:
either may be foreshortened."""

_SAME_POSED_HAND = 0.6
"""Hands of overlapping persons that are closer than this, in the larger one's size, are the same."""

_LOOK_SIDE, _LOOK_FOREARM, _LOOK_MIN = 2.0, 0.5, 8.0
"""The hand in a look at a posed hand: distances from the wrist to the knuckles, lengths of the forearm, and pixels; the
largest counts. It is a little larger than the hand's size, because the pose's place is less exact than a palm's."""

_LOOK_MARGIN = 2.7
"""Side of such a look, in sizes of that hand."""

_LOGIT_LIMIT = 60.0
"""Keeps exp() finite; the probability reaches 0 or 1 far earlier."""


@dataclass(frozen=True, eq=False)
class Pose:
    """The pose of one person."""

    flag: float
    """Probability that the crop shows a person."""
    joints: Floats
    """(39, 2) in the picture's pixels; they may be outside the picture."""
    seen: Floats
    """(39,) probability that a joint is both inside the crop and not hidden."""


@dataclass(frozen=True, eq=False)
class PosedHand:
    """Where a pose says that a hand is."""

    centre: Floats
    """(2,) between the knuckles of index and little finger, in the picture's pixels."""
    size: float
    """Side of the hand's box, pixels."""
    visibility: float
    """0 to 1."""
    confidence: float
    """Visibility times the flag of the pose."""
    right: bool
    """The person's own right hand."""
    square: RotatedSquare
    """Where to look for it."""


def square_of_person(points: Floats) -> RotatedSquare:
    """Returns the crop for a person's (4, 2) points: around the hips, rotated so that the body is upright."""
    hips, scale = points[HIPS], points[BODY_SCALE]
    return RotatedSquare(
        x=float(hips[0]),
        y=float(hips[1]),
        side=max(1.0, _BODY_TO_SQUARE * float(np.linalg.norm(scale - hips))),
        angle=upward_angle(hips, scale),
    )


def posed_hands(poses: Iterable[Pose]) -> list[PosedHand]:
    """Returns the visible hands of persons, each once, highest `confidence` first."""
    found = [
        posed_hand(pose, arm)
        for pose in poses
        if pose.flag >= MIN_FLAG
        for arm in ARMS
        if pose.seen[arm.wrist] >= MIN_VISIBILITY
    ]
    kept: list[PosedHand] = []
    for hand in sorted(found, key=lambda hand: -hand.confidence):
        if not any(_same(hand, other) for other in kept):
            kept.append(hand)
    return kept


def posed_hand(pose: Pose, arm: Arm) -> PosedHand:
    """Returns the hand at the end of a person's arm."""
    wrist, elbow = pose.joints[arm.wrist], pose.joints[arm.elbow]
    # The index finger's knuckle counts twice, because the hand's middle is nearer to it.
    knuckles = ((2 * pose.joints[arm.index_knuckle] + pose.joints[arm.little_knuckle]) / 3).astype(np.float32)
    length, forearm = float(np.linalg.norm(knuckles - wrist)), float(np.linalg.norm(wrist - elbow))
    visibility = float(pose.seen[arm.wrist])
    return PosedHand(
        centre=knuckles,
        size=max(_KNUCKLES_TO_HAND * length, _FOREARM_TO_HAND * forearm),
        visibility=visibility,
        confidence=visibility * pose.flag,
        right=arm.right,
        square=RotatedSquare(
            x=float(knuckles[0]),
            y=float(knuckles[1]),
            side=_LOOK_MARGIN * max(_LOOK_SIDE * length, _LOOK_FOREARM * forearm, _LOOK_MIN),
            angle=upward_angle(wrist, knuckles),
        ),
    )


def _same(one: PosedHand, other: PosedHand) -> bool:
    apart = float(np.linalg.norm(one.centre - other.centre))
    return apart < _SAME_POSED_HAND * max(one.size, other.size)


def read_poses(squares: Sequence[RotatedSquare]) -> Steps[list[Pose]]:
    """Returns the pose that each rotated square of the picture shows."""
    rows = (yield ReadCrops(POSES, squares)) if squares else ()
    return [_pose(row, square) for row, square in zip(rows, squares, strict=True)]


def _pose(row: Floats, square: RotatedSquare) -> Pose:
    # 39 x (x, y, z, log odds of visibility, log odds of presence), then the flag.
    joints, flag = row[:-1].reshape(POSE_JOINTS, 5), float(row[-1])
    seen = 1 / (1 + np.exp(-np.clip(joints[:, 3:].min(axis=1), -_LOGIT_LIMIT, _LOGIT_LIMIT)))
    return Pose(flag=flag, joints=square.to_image(joints[:, :2], POSE_INPUT), seen=seen.astype(np.float32))
