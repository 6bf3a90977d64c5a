"""The palm model: finds palms in a view of the picture, with their wrists and knuckles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.hands.anchors import PALM_INPUT, palm_anchors
from worker.hands.geometry import Floats, View, ious
from worker.hands.interpreter import Model
from worker.hands.pyramid import Pyramid
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
        regressors: (2016, 18) per anchor: centre x, y, width, height, then 7 points x, y; in input pixels, all but
            width and height relative to the anchor's centre.
        logits: (2016,) log odds of a palm at the anchor.
        anchors: (2016, 2) centres in 0..1.
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
    left = np.argsort(-palms.scores, kind="stable")
    boxes, points, scores = [], [], []
    while len(left):
        best = left[0]
        same = ious(palms.boxes[best : best + 1], palms.boxes[left])[0] > _SAME_PALM
        same[0] = True  # a box without area doesn't overlap even itself
        members = left[same]
        weights = palms.scores[members] / palms.scores[members].sum()
        boxes.append(np.tensordot(weights, palms.boxes[members], axes=1))
        points.append(np.tensordot(weights, palms.points[members], axes=1))
        scores.append(palms.scores[best])
        left = left[~same]
    return Palms(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(points, np.float32).reshape(-1, PALM_POINTS, 2),
        np.array(scores, np.float32),
    )


def group_palms(palms: Palms) -> Palms:
    """Returns one palm of each hand that several views show, the one with the highest score; highest score first."""
    left = np.argsort(-palms.scores, kind="stable")
    best = []
    while len(left):
        best.append(left[0])
        same = ious(palms.boxes[left[:1]], palms.boxes[left])[0] > SAME_PALM_IOU
        same[0] = True  # a box without area doesn't overlap even itself
        left = left[~same]
    return palms[np.array(best, np.intp)]


class PalmModel:
    """The palm model on LiteRT. Only one thread may use it at a time."""

    def __init__(self, model: Path, num_threads: int = 1) -> None:
        """Loads the model."""
        self._model = Model(model, num_threads)
        # The last axis identifies an output: 18 numbers per anchor, or one score.
        self._regressors, self._logits = (self._model.widths.index(width) for width in (4 + 2 * PALM_POINTS, 1))
        self._anchors = palm_anchors()

    def find(self, pyramid: Pyramid, view: View) -> Palms:
        """Finds the palms in a view of the picture.

        Returns:
            The palms in the picture's pixels, one per hand, highest score first.
        """
        content, shown = pyramid.letterboxed(view, PALM_INPUT)
        self._model.run(content[None] * np.float32(1 / 255))
        regressors, logits = self._model.output(self._regressors)[0], self._model.output(self._logits)[0, :, 0]
        palms = merge_overlapping(decode(regressors, logits, self._anchors, _MIN_ANCHOR_SCORE))
        corners = shown.to_image(palms.boxes.reshape(-1, 2, 2), PALM_INPUT)
        return Palms(corners.reshape(-1, 4), shown.to_image(palms.points, PALM_INPUT), palms.scores)

    def search(self, pyramid: Pyramid, views: Sequence[View], min_score: float) -> Palms:
        """Finds the palms that are completely inside one of several views, one per hand, highest score first."""
        found = []
        for view in views:
            palms = self.find(pyramid, view)
            sides = (palms.boxes[:, 2:] - palms.boxes[:, :2]).max(axis=1, initial=0)
            cut = cut_by(view, palms.boxes, pyramid.width, pyramid.height)
            found.append(palms[~cut & (sides >= MIN_PALM_SIDE) & (palms.scores >= min_score)])
        return group_palms(concatenate(found))
