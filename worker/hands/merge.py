"""Decides which detections are the same hand, so that each hand is counted once. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.hands.geometry import Floats, View, areas, intersections, ious
from worker.hands.palm import Palms

SAME_PALM_IOU = 0.5
"""Palms of different views that overlap more than this (intersection over union) are the same. Palms of hands that hold
each other overlap less; a hand that is found twice nevertheless is recognised by its joints."""

SAME_JOINTS_DISTANCE = 0.35
"""Hands whose joints are closer than this on average, in sides of the surer one's box, are the same. Two detections of
one hand differ by far less; crossed hands differ by more, because they point in different directions."""

OTHER_PALM_IOU, OTHER_PALM_SCORE = 0.2, 0.75
"""Two palms that overlap less than this, both with at least this score, are two hands all the same: for hands that hold
each other, the landmark model often finds the same one twice."""

INSIDE = 0.25
"""A palm without trusted joints is part of another hand if more than this share of it is in that hand's box."""

SAME_HAND_IOU = 0.5
"""Without trusted joints, hands whose boxes overlap more than this are the same."""

FOREARM_START, FOREARM_END, FOREARM_WIDTH = -0.5, 2.0, 1.5
"""The region in which a palm without trusted joints is taken for a hand's forearm, in units of the distance from that
hand's wrist to its middle knuckle. The palm model takes a bare forearm for a palm."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One detection of a hand, perhaps one of several."""

    palm_box: Floats
    """(4,) x0, y0, x1, y1 of the palm without the fingers."""
    palm_score: float
    """The palm model's probability."""
    hand_box: Floats
    """(4,) x0, y0, x1, y1 of the whole hand."""
    joints: Floats | None
    """(21, 2) the joints, None if they aren't trusted."""
    score: float
    """The combined score."""


def cut_by(view: View, boxes: Floats, width: int, height: int) -> NDArray[np.bool_]:
    """Returns which (N, 4) boxes found in a view reach beyond one of its borders that isn't the picture's border.

    The model guesses palms that a view shows only in part, and another view shows all of them: tiles overlap, and palms
    larger than the overlap are large enough for the view of the whole picture.
    """
    low = np.array([view.x, view.y], np.float32)
    high = low + np.array([view.width, view.height], np.float32)
    inner_low = low > 0
    inner_high = high < np.array([width, height], np.float32)
    beyond = ((boxes[:, :2] < low) & inner_low) | ((boxes[:, 2:] > high) & inner_high)
    return np.asarray(beyond.any(axis=1), np.bool_)


def group_palms(palms: Palms) -> list[NDArray[np.intp]]:
    """Groups the palms of the same hand that were found in several views.

    Returns:
        The rows of each group, the surest first, both within a group and among the groups.
    """
    left = np.argsort(-palms.scores, kind="stable")
    groups = []
    while len(left):
        best = left[0]
        same = ious(palms.boxes[best : best + 1], palms.boxes[left])[0] > SAME_PALM_IOU
        same[0] = True
        groups.append(left[same])
        left = left[~same]
    return groups


def distinct_hands(found: Sequence[Detection]) -> list[int]:
    """Picks one detection of each hand.

    Returns:
        The indices of the detections to keep: for each hand the surest one with trusted joints, whose box is better,
        or the surest one if none has trusted joints.
    """
    order = sorted(range(len(found)), key=lambda row: (found[row].joints is None, -found[row].score))
    kept: list[int] = []
    for row in order:
        if not any(same_hand(found[row], found[other]) for other in kept):
            kept.append(row)
    return kept


def same_hand(one: Detection, kept: Detection) -> bool:
    """Returns whether `one` is the same hand as `kept`, which comes before it in order of preference."""
    if one.joints is not None and kept.joints is not None:
        palms = ious(one.palm_box[None], kept.palm_box[None])[0, 0]
        if palms < OTHER_PALM_IOU and min(one.palm_score, kept.palm_score) >= OTHER_PALM_SCORE:
            return False
        side = float((kept.hand_box[2:] - kept.hand_box[:2]).max())
        return bool(np.linalg.norm(one.joints - kept.joints, axis=1).mean() < SAME_JOINTS_DISTANCE * side)
    if kept.joints is not None and _on_forearm(one.palm_box, kept.joints):
        return True
    inside = intersections(one.palm_box[None], kept.hand_box[None])[0, 0] > INSIDE * areas(one.palm_box[None])[0]
    return bool(inside or ious(one.hand_box[None], kept.hand_box[None])[0, 0] > SAME_HAND_IOU)


def _on_forearm(palm_box: Floats, joints: Floats) -> bool:
    """Returns whether a (4,) palm is on the forearm of a hand with these (21, 2) joints."""
    wrist, knuckle = joints[0], joints[9]
    back = wrist - knuckle
    length = float(np.linalg.norm(back))
    if length == 0:
        return False
    x, y = ((palm_box[:2] + palm_box[2:]) / 2 - wrist) / length
    along = (x * back[0] + y * back[1]) / length
    across = (x * back[1] - y * back[0]) / length
    return bool(FOREARM_START < along < FOREARM_END and abs(across) < FOREARM_WIDTH / 2)
