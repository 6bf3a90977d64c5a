"""The palm model: finds palms in a view of the picture, with their wrists and knuckles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.hands.anchors import PALM_INPUT, palm_anchors
from worker.hands.geometry import Floats, View, ious
from worker.hands.networks import LOGIT_MARGIN, AnchorNetwork, SearchViews, Steps, logit
from worker.hands.pyramid import cut_of
from worker.hands.views import cut_by

PALM_POINTS = 7
"""Points per palm: wrist, knuckles of index, middle, ring and little finger, base and knuckle of the thumb."""

WRIST, MIDDLE_KNUCKLE = 0, 2
"""Rows of a palm's points that determine the hand's direction."""

JOINT_OF_POINT = (0, 5, 9, 13, 17, 1, 2)
"""The hand joint (of 21) at each palm point."""

_SAME_PALM = 0.3
"""Boxes of one view that overlap more than this (intersection over union) are the same palm."""

SAME_PALM_IOU = 0.5
"""Palms of different views that overlap more than this (intersection over union) are the same. Palms of hands that hold
each other overlap less; a hand that is found twice nevertheless is recognised by its joints."""

MIN_PALM_SIDE = 5.0
"""Pixels. Smaller palms are noise: neither model recognises a hand in so few pixels."""

_MIN_ANCHOR_SCORE = 0.05
"""Anchors from this score on take part in the mean of their palm, though a palm needs a higher score to be examined: the
mean over more anchors is closer to the hand."""

_LOGIT_LIMIT = 80.0
"""Keeps exp() finite in float32; the score reaches 0 or 1 far earlier."""

PALMS = AnchorNetwork(
    "palm",
    size=PALM_INPUT,
    scale=1 / 255,
    offset=0.0,
    numbers=4 + 2 * PALM_POINTS,
    min_logit=logit(_MIN_ANCHOR_SCORE) - LOGIT_MARGIN,
)
"""The palm model."""

_ANCHORS = palm_anchors()


@dataclass(frozen=True, eq=False)
class Palms:
    """Palms found in a picture: parallel arrays, with coordinates in the picture's pixels."""

    boxes: Floats
    """(N, 4) boxes around the palm without the fingers, as x0, y0, x1, y1."""
    points: Floats
    """(N, 7, 2) the palm's points as x, y."""
    scores: Floats
    """(N,) the model's probability of a palm."""

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Palms:
        """Returns the palms that a slice, a mask or indices select."""
        return Palms(self.boxes[rows], self.points[rows], self.scores[rows])


NO_PALMS = Palms(np.zeros((0, 4), np.float32), np.zeros((0, PALM_POINTS, 2), np.float32), np.zeros(0, np.float32))


def concatenate(parts: Sequence[Palms]) -> Palms:
    """Returns the palms of several views, all in the picture's pixels, as one."""
    return Palms(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def decode(regressors: Floats, logits: Floats, anchors: Floats, min_score: float) -> Palms:
    """Converts the palm model's raw outputs to palms, in the pixels of its input.

    Args:
        regressors: (N, 18) per anchor: centre x, y, width, height, then 7 points x, y; in input pixels, all but
            width and height relative to the anchor's centre.
        logits: (N,) log odds of a palm at the anchor.
        anchors: (N, 2) centres in 0..1.
        min_score: palms below this probability are dropped.

    Returns:
        The palms, several for each hand: not yet merged.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)))
    keep = scores >= min_score
    raw, origin = regressors[keep], anchors[keep] * PALM_INPUT
    centres = raw[:, 0:2] + origin
    halves = np.abs(raw[:, 2:4]) / 2
    points = raw[:, 4:].reshape(-1, PALM_POINTS, 2) + origin[:, None]
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    return Palms(boxes.astype(np.float32), points.astype(np.float32), scores[keep].astype(np.float32))


def merge_overlapping(palms: Palms) -> Palms:
    """Merges overlapping palms into their mean, weighted by score, with the highest of their scores.

    The mean over neighbouring anchors is more stable than the best anchor alone.

    Returns:
        The merged palms, highest score first.
    """
    if not len(palms):
        return palms
    ordered = palms[np.argsort(-palms.scores, kind="stable")]
    groups = np.array(_groups(ordered.boxes, _SAME_PALM), np.float32).reshape(-1, len(ordered))
    weights = groups * ordered.scores
    weights /= weights.sum(axis=1, keepdims=True)
    best = groups.argmax(axis=1)
    boxes, points = (weights @ each.reshape(len(ordered), -1) for each in (ordered.boxes, ordered.points))
    return Palms(boxes.astype(np.float32), points.reshape(-1, PALM_POINTS, 2).astype(np.float32), ordered.scores[best])


def group_palms(palms: Palms) -> Palms:
    """Returns one palm of each hand that several views show, the one with the highest score; highest score first."""
    ordered = palms[np.argsort(-palms.scores, kind="stable")]
    groups = _groups(ordered.boxes, SAME_PALM_IOU)
    return ordered[np.array([int(group.argmax()) for group in groups], np.intp)]


def _groups(boxes: Floats, overlap: float) -> list[NDArray[np.bool_]]:
    """Returns for each box that no earlier group has which (N,) boxes are in its group: those that overlap it by more."""
    same = ious(boxes, boxes) > overlap
    np.fill_diagonal(same, True)  # a box without area doesn't overlap even itself
    left = np.ones(len(boxes), np.bool_)
    groups = []
    for row in range(len(boxes)):
        if left[row]:
            groups.append(same[row] & left)
            left &= ~same[row]
    return groups


def search_palms(width: int, height: int, views: Sequence[View], min_score: float) -> Steps[Palms]:
    """Finds the palms that are completely inside one of several views of a picture.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
        views: parts of the picture.
        min_score: palms below this score are dropped.

    Returns:
        The palms in the picture's pixels, one per hand, highest score first.
    """
    answer = yield SearchViews(PALMS, views)
    found = [NO_PALMS]
    for view, rows in zip(views, answer, strict=True):
        if len(rows):
            palms = _palms_of_view(rows, cut_of(view, PALM_INPUT, width, height).shown)
            sides = (palms.boxes[:, 2:] - palms.boxes[:, :2]).max(axis=1, initial=0)
            cut = cut_by(view, palms.boxes, width, height)
            found.append(palms[~cut & (sides >= MIN_PALM_SIDE) & (palms.scores >= min_score)])
    return group_palms(concatenate(found))


def _palms_of_view(rows: Floats, shown: View) -> Palms:
    """Returns the palms that the palm model's (N, 20) rows of a view show, in the picture's pixels, one per hand."""
    anchors = _ANCHORS[rows[:, 0].astype(np.intp)]
    palms = merge_overlapping(decode(rows[:, 2:], rows[:, 1], anchors, _MIN_ANCHOR_SCORE))
    corners = shown.to_image(palms.boxes.reshape(-1, 2, 2), PALM_INPUT)
    return Palms(corners.reshape(-1, 4), shown.to_image(palms.points, PALM_INPUT), palms.scores)
