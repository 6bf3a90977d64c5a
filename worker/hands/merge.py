"""One hand, one detection: finds out which of the things found are the same hand. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.hands.geometry import Floats, View, areas, intersections, ious
from worker.hands.palm import Palms

SAME_PALM_IOU = 0.5
"""Palms of different views that overlap more than this are the same. Those of folded hands overlap less, and what is
found twice in spite of this is told by its joints."""

SAME_JOINTS_DISTANCE = 0.35
"""Hands whose joints are closer than this on average, in sides of the surer one's box, are the same: two hands that
are folded or crossed differ by more, because they point elsewhere."""

INSIDE = 0.6
"""A palm without trusted joints of which more than this lies in another hand's box is part of that hand."""

SAME_HAND_IOU = 0.5
"""Without trusted joints, hands whose boxes overlap more than this are the same."""


def cut_by(view: View, boxes: Floats, width: int, height: int) -> NDArray[np.bool_]:
    """Tell which (N, 4) boxes found in a view reach over one of its borders that isn't the picture's border.

    What a view shows only in part is guessed, and another view shows the whole of it: tiles overlap, and what is
    larger than their overlap is large enough for the view of the whole picture.
    """
    low = np.array([view.x, view.y], np.float32)
    high = low + np.array([view.width, view.height], np.float32)
    inner_low = low > 0
    inner_high = high < np.array([width, height], np.float32)
    return ((boxes[:, :2] < low) & inner_low).any(axis=1) | ((boxes[:, 2:] > high) & inner_high).any(axis=1)


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


def distinct_hands(
    hand_boxes: Floats, palm_boxes: Floats, joints: Floats, order: Sequence[int] | NDArray[np.intp]
) -> list[int]:
    """Pick one detection of each hand.

    Args:
        hand_boxes: (N, 4) boxes of the whole hands.
        palm_boxes: (N, 4) boxes of their palms.
        joints: (N, 21, 2), NaN where the landmarks aren't trusted.
        order: All rows, the ones to be preferred first.

    Returns:
        The rows to keep, in that order.
    """
    kept: list[int] = []
    for row in order:
        if not any(_same_hand(row, other, hand_boxes, palm_boxes, joints) for other in kept):
            kept.append(int(row))
    return kept


def _same_hand(row: int, other: int, hand_boxes: Floats, palm_boxes: Floats, joints: Floats) -> bool:
    """Tell whether `row` is one more detection of the hand `other`."""
    distances = np.linalg.norm(joints[row] - joints[other], axis=1)
    if np.isfinite(distances).all():
        side = float((hand_boxes[other, 2:] - hand_boxes[other, :2]).max())
        return bool(distances.mean() < SAME_JOINTS_DISTANCE * side)
    mine, theirs = hand_boxes[row : row + 1], hand_boxes[other : other + 1]
    palm = palm_boxes[row : row + 1]
    inside = intersections(palm, theirs)[0, 0] > INSIDE * areas(palm)[0]
    return bool(inside or ious(mine, theirs)[0, 0] > SAME_HAND_IOU)
