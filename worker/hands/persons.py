"""The person model: finds persons in a view of the picture, each as four points that say where and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.hands.anchors import PERSON_INPUT, person_anchors
from worker.hands.geometry import Floats, View, ious
from worker.hands.networks import LOGIT_MARGIN, AnchorNetwork, SearchViews, Steps, logit
from worker.hands.pyramid import cut_of

PERSON_POINTS = 4
"""Points per person: hip centre, a point that says how far the whole body reaches from there, shoulder centre, and a
point that says how far the upper body reaches from there."""

HIPS, BODY_SCALE, SHOULDERS, UPPER_SCALE = range(PERSON_POINTS)
"""Rows of a person's points."""

MIN_PERSON_SCORE = 0.5
"""Below this, pieces of furniture and shadows prevail; the pose model would have to reject them, at 15 ms each."""

MAX_PERSONS = 12
"""In one picture, those with the highest scores. It bounds the time for a picture of a crowd, whose hands are too small."""

_SAME_BOX = 0.3
"""Boxes (of the faces) in one view that overlap more than this, intersection over union, are the same person; the value
of the model's authors."""

_SAME_SHOULDERS = 0.5
"""Persons of different views whose shoulder centres are closer than this, in the larger one's upper body, are the same:
people who stand behind each other are farther apart, and two views place the shoulders within a tenth."""

_LOGIT_LIMIT = 80.0
"""Keeps exp() finite in float32; the score reaches 0 or 1 far earlier."""

PERSONS = AnchorNetwork(
    "persons",
    size=PERSON_INPUT,
    scale=1 / 127.5,
    offset=-1.0,
    numbers=4 + 2 * PERSON_POINTS,
    min_logit=logit(MIN_PERSON_SCORE) - LOGIT_MARGIN,
)
"""The person model."""

_ANCHORS = person_anchors()


@dataclass(frozen=True, eq=False)
class Persons:
    """Persons found in a picture: parallel arrays, with coordinates in the picture's pixels."""

    points: Floats
    """(N, 4, 2) the person's points as x, y."""
    scores: Floats
    """(N,) the model's probability of a person."""

    def __len__(self) -> int:
        return len(self.scores)


def decode_persons(regressors: Floats, logits: Floats, anchors: Floats, min_score: float) -> Persons:
    """Converts the person model's raw outputs to persons, in the pixels of its input.

    Args:
        regressors: (N, 12) per anchor: centre x, y, width, height of the face's box, then 4 points x, y; in input
            pixels, all but width and height relative to the anchor's centre.
        logits: (N,) log odds of a person at the anchor.
        anchors: (N, 2) centres in 0..1.
        min_score: persons below this probability are dropped.

    Returns:
        One detection of each person, highest score first.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT)))
    rows = np.flatnonzero(scores >= min_score)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    raw, origin = regressors[rows], anchors[rows] * PERSON_INPUT
    centres, halves = raw[:, :2] + origin, np.abs(raw[:, 2:4]) / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=1).astype(np.float32)
    overlaps = ious(boxes, boxes)
    kept: list[int] = []
    for row in range(len(rows)):
        if not (overlaps[row, kept] > _SAME_BOX).any():
            kept.append(row)
    points = raw[kept, 4:].reshape(-1, PERSON_POINTS, 2) + origin[kept][:, None]
    return Persons(points.astype(np.float32), scores[rows[kept]].astype(np.float32))


def distinct_persons(views: Sequence[Persons]) -> Persons:
    """Returns each person of several views once, highest score first, at most MAX_PERSONS of them."""
    if not views:
        return Persons(np.zeros((0, PERSON_POINTS, 2), np.float32), np.zeros(0, np.float32))
    points = np.concatenate([np.zeros((0, PERSON_POINTS, 2), np.float32), *(persons.points for persons in views)])
    scores = np.concatenate([np.zeros(0, np.float32), *(persons.scores for persons in views)])
    reaches = np.linalg.norm(points[:, UPPER_SCALE] - points[:, SHOULDERS], axis=1)
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable"):
        apart = np.linalg.norm(points[kept, SHOULDERS] - points[row, SHOULDERS], axis=1)
        if (apart >= _SAME_SHOULDERS * np.maximum(reaches[kept], reaches[row])).all():
            kept.append(int(row))
        if len(kept) == MAX_PERSONS:
            break
    return Persons(points[kept], scores[kept])


def search_persons(width: int, height: int, views: Sequence[View]) -> Steps[Persons]:
    """Finds the persons in several views of a picture of `width` x `height` pixels.

    Returns:
        The persons in the picture's pixels, each once, highest score first.
    """
    answer = yield SearchViews(PERSONS, views)
    found = []
    for view, rows in zip(views, answer, strict=True):
        if len(rows):
            anchors = _ANCHORS[rows[:, 0].astype(np.intp)]
            persons = decode_persons(rows[:, 2:], rows[:, 1], anchors, MIN_PERSON_SCORE)
            shown = cut_of(view, PERSON_INPUT, width, height).shown
            found.append(Persons(shown.to_image(persons.points, PERSON_INPUT), persons.scores))
    return distinct_persons(found)
