"""The palm model: finds palms in a view of the picture, with their wrists and knuckles."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.hands.anchors import PALM_INPUT, palm_anchors
from worker.hands.geometry import Floats, View, ious
from worker.hands.networks import LOGIT_MARGIN, AnchorNetwork, SearchViews, Steps, logit
from worker.hands.pyramid import cut_of
from worker.hands.views import cut_by, inner_borders

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


NO_ROWS = np.zeros((0, 2 + PALMS.numbers), np.float32)
NO_PALMS = Palms(np.zeros((0, 4), np.float32), np.zeros((0, PALM_POINTS, 2), np.float32), np.zeros(0, np.float32))


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
    scores = _probabilities(logits)
    keep = scores >= min_score
    raw, origin = regressors[keep], anchors[keep] * PALM_INPUT
    centres = raw[:, 0:2] + origin
    halves = np.abs(raw[:, 2:4]) / 2
    points = raw[:, 4:].reshape(-1, PALM_POINTS, 2) + origin[:, None]
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    return Palms(boxes.astype(np.float32), points.astype(np.float32), scores[keep].astype(np.float32))


def _probabilities(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT))), np.float32)


def merge_overlapping(palms: Palms, views: NDArray[np.intp]) -> tuple[Palms, NDArray[np.intp]]:
    """Merges overlapping palms of a view into their mean, weighted by score, with the highest of their scores.

    The mean over neighbouring anchors is more stable than the best anchor alone.

    Args:
        palms: of several views, each in the pixels of its view's input.
        views: (N,) the number of each palm's view.

    Returns:
        The merged palms, highest score first, and their views.
    """
    if not len(palms):
        return palms, views
    order = np.argsort(-palms.scores, kind="stable")
    ordered, views = palms[order], views[order]
    groups = np.zeros((len(ordered), len(ordered)), np.float32)
    best: list[int] = []
    for view in set(views.tolist()):  # view by view: most palms are in different ones, which needn't be compared
        rows = np.flatnonzero(views == view)
        for group in _groups(ordered.boxes[rows], _SAME_PALM):
            members = rows[group]
            groups[members[0], members] = 1
            best.append(int(members[0]))
    best.sort()
    weights = groups[best] * ordered.scores
    weights /= weights.sum(axis=1, keepdims=True)
    boxes, points = (weights @ each.reshape(len(ordered), -1) for each in (ordered.boxes, ordered.points))
    merged = Palms(
        boxes.astype(np.float32), points.reshape(-1, PALM_POINTS, 2).astype(np.float32), ordered.scores[best]
    )
    return merged, views[best]


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
    rows = np.concatenate([NO_ROWS, *answer])
    of_view = np.repeat(np.arange(len(views)), [len(each) for each in answer])
    likely = _probabilities(rows[:, 1]) >= _MIN_ANCHOR_SCORE
    rows, of_view = rows[likely], of_view[likely]
    if not len(rows):
        return NO_PALMS
    anchors = _ANCHORS[rows[:, 0].astype(np.intp)]
    palms, of_view = merge_overlapping(decode(rows[:, 2:], rows[:, 1], anchors, _MIN_ANCHOR_SCORE), of_view)
    shown = _shown_parts(tuple(views), width, height)[of_view]
    boxes = _to_image(palms.boxes.reshape(-1, 2, 2), shown).reshape(-1, 4)
    palms = Palms(boxes, _to_image(palms.points, shown), palms.scores)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    cut = cut_by(_borders(tuple(views), width, height)[of_view], boxes)
    return group_palms(palms[~cut & (sides >= MIN_PALM_SIDE) & (palms.scores >= min_score)])


_borders = functools.lru_cache(maxsize=256)(inner_borders)


@functools.lru_cache(maxsize=256)
def _shown_parts(views: tuple[View, ...], width: int, height: int) -> Floats:
    """Returns (N, 3, 2) x, y: the begin of a view's content in the input, the picture's pixels for one there, its own begin."""
    parts = []
    for view in views:
        shown = cut_of(view, PALM_INPUT, width, height).shown
        x, y, across, down = shown.letterbox(PALM_INPUT)
        parts.append(((x, y), (shown.width / across, shown.height / down), (shown.x, shown.y)))
    return np.array(parts, np.float32).reshape(-1, 3, 2)


def _to_image(points: Floats, shown: Floats) -> Floats:
    """Converts (N, M, 2) points of inputs to the picture's pixels, each by its (N, 3, 2) part of the picture."""
    return (points - shown[:, None, 0]) * shown[:, None, 1] + shown[:, None, 2]
