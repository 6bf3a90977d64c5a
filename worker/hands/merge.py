"""One hand, one detection: finds out which of the things found are the same hand. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.hands.geometry import Floats, View, areas, intersections, ious
from worker.hands.palm import Palms

SAME_PALM_IOU = 0.5
"""Palms of different views that overlap more than this (intersection over union) are the same. Those of hands that
hold each other overlap less; what is found twice in spite of this is told by its joints."""

SAME_JOINTS_DISTANCE = 0.35
"""Hands whose joints are closer than this on average, in sides of the surer one's box, are the same. Two
detections of one hand differ by far less, crossed hands by more, since they point elsewhere."""

OTHER_PALM_IOU, OTHER_PALM_SCORE = 0.2, 0.75
"""But two palms that overlap less than this, both this sure, are two hands: of hands that hold each other the landmark
model often sees the same one twice."""

INSIDE = 0.25
"""A palm without trusted joints of which more than this lies in another hand's box is part of that hand."""

SAME_HAND_IOU = 0.5
"""Without trusted joints, hands whose boxes overlap more than this are the same."""

FOREARM_START, FOREARM_END, FOREARM_WIDTH = -0.5, 2.0, 1.5
"""Where a palm without trusted joints is taken for a hand's forearm, in lengths from that hand's wrist to its middle
knuckle. A bare forearm looks like a palm to the palm model."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One thing found: a hand, perhaps not the only time it was found."""

    palm_box: Floats
    """(4,) x0, y0, x1, y1 of the palm without the fingers."""
    palm_score: float
    """The palm model's probability."""
    hand_box: Floats
    """(4,) x0, y0, x1, y1 of the whole hand."""
    joints: Floats | None
    """(21, 2) the joints, None where they aren't trusted."""
    score: float
    """The combined score."""


def cut_by(view: View, boxes: Floats, width: int, height: int) -> NDArray[np.bool_]:
    """Tell which (N, 4) boxes found in a view reach over one of its borders that isn't the picture's border.

    What a view shows only in part is guessed, and another view shows the whole of it: tiles overlap, and what is
    larger than their overlap is large enough for the view of the whole picture.
    """
    low = np.array([view.x, view.y], np.float32)
    high = low + np.array([view.width, view.height], np.float32)
    inner_low = low > 0
    inner_high = high < np.array([width, height], np.float32)
    beyond = ((boxes[:, :2] < low) & inner_low) | ((boxes[:, 2:] > high) & inner_high)
    return np.asarray(beyond.any(axis=1), np.bool_)


def group_palms(palms: Palms) -> list[NDArray[np.intp]]:
    """Group the palms that several views found of the same hand.

    Returns:
        The rows of each group, surest first in the group and among the groups.
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
    """Pick one detection of each hand.

    Returns:
        The indices of the ones to keep: of each hand one with trusted joints if there is any, since it has the better
        box, and the surest of those.
    """
    order = sorted(range(len(found)), key=lambda row: (found[row].joints is None, -found[row].score))
    kept: list[int] = []
    for row in order:
        if not any(same_hand(found[row], found[other]) for other in kept):
            kept.append(row)
    return kept


def same_hand(one: Detection, kept: Detection) -> bool:
    """Tell whether `one` is the hand that was already found as `kept`."""
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
    """Tell whether a (4,) palm lies on the forearm of a hand with these (21, 2) joints."""
    wrist, knuckle = joints[0], joints[9]
    back = wrist - knuckle
    length = float(np.linalg.norm(back))
    if length == 0:
        return False
    x, y = ((palm_box[:2] + palm_box[2:]) / 2 - wrist) / length
    along = (x * back[0] + y * back[1]) / length
    across = (x * back[1] - y * back[0]) / length
    return bool(FOREARM_START < along < FOREARM_END and abs(across) < FOREARM_WIDTH / 2)
