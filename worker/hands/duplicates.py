"""Decides which candidates are the same hand, so that each hand is counted once. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.hands.candidate import Candidate, centre, side
from worker.hands.geometry import Floats, apart, area, intersection, iou
from worker.hands.score import Terms, Weights

MIN_CANDIDATE = 0.2
"""Candidates below this score take no part: they would only lend their terms to hands that they aren't."""

TRUSTED_IOU = 0.35
"""Hands with trusted joints whose boxes overlap more than this (intersection over union) are the same."""

TRUSTED_JOINTS = 0.35
"""The same if their joints are closer than this on average, in the larger box's sides. Two detections of one hand differ
by far less; crossed hands differ by more, because they point in different directions."""

TRUSTED_CENTRES = 0.25
"""The same if their boxes' centres are closer than this, in the larger box's sides."""

PART_INSIDE, PART_SIZE = 0.8, 0.65
"""The same if more than this share of the smaller box is in the larger one, and its side is below this share of the
larger one's: a finger or a knuckle that was taken for a small hand."""

SURE_PALMS, OTHER_PALM_IOU, OTHER_JOINTS, OTHER_IOU = 0.85, 0.2, 0.1, 0.45
"""But hands whose palms both have at least this score and overlap less than this are two, if their joints are farther
apart and their boxes overlap less than this: for hands that hold each other, the landmark model often finds the same
joints twice, but not exactly."""

PALM_INSIDE = 0.25
"""A palm without trusted joints is part of another hand if more than this share of it is in that hand's box."""

MIXED_IOU = 0.25
"""The same if their boxes overlap more than this."""

UNTRUSTED_IOU = 0.3
"""Without trusted joints on either side, the same if their boxes overlap more than this: both boxes are guesses."""

UNTRUSTED_CENTRES = 0.5
"""The same if their boxes' centres are closer than this, in the larger box's sides."""

FOREARM_START, FOREARM_END, FOREARM_WIDTH = -0.5, 2.0, 1.5
"""The region in which a palm without trusted joints is taken for a hand's forearm, in units of the distance from that
hand's wrist to its middle knuckle. The palm model takes a bare forearm for a palm."""


@dataclass(frozen=True, eq=False)
class Found:
    """A hand: the best of its candidates, and what all of them say together."""

    best: Candidate
    terms: Terms


def distinct_hands(candidates: Sequence[Candidate], weights: Weights) -> list[Found]:
    """Merges the candidates of each hand.

    Returns:
        For each hand the candidate with the highest score of those with trusted joints, whose boxes are better, or of all if
        none has trusted joints; with the highest of each term of its candidates.
    """
    scores = [weights.score(candidate.terms) for candidate in candidates]
    rows = [row for row, score in enumerate(scores) if score >= MIN_CANDIDATE]
    kept: list[Found] = []
    for row in sorted(rows, key=lambda row: (not candidates[row].trusted, -scores[row])):
        candidate = candidates[row]
        for place, hand in enumerate(kept):
            if same_hand(candidate, hand.best):
                kept[place] = Found(hand.best, hand.terms.strongest(candidate.terms))
                break
        else:
            kept.append(Found(candidate, candidate.terms))
    return kept


def same_hand(one: Candidate, other: Candidate) -> bool:
    """Returns whether two candidates are the same hand; the order doesn't matter."""
    if one.trusted and other.trusted:
        return _same_trusted(one, other)
    overlap = iou(one.hand_box, other.hand_box)
    if (
        overlap > (MIXED_IOU if one.trusted or other.trusted else UNTRUSTED_IOU)
        or _apart(one, other) < UNTRUSTED_CENTRES
    ):
        return True
    if not one.trusted and not other.trusted:
        return False
    sure, guess = (one, other) if one.trusted else (other, one)
    if _on_forearm(guess.palm_box, sure.points):
        return True
    return intersection(guess.palm_box, sure.hand_box) > PALM_INSIDE * area(guess.palm_box)


def _same_trusted(one: Candidate, other: Candidate) -> bool:
    overlap = iou(one.hand_box, other.hand_box)
    larger, smaller = sorted((side(one.hand_box), side(other.hand_box)), reverse=True)
    sure = one.palm is not None and other.palm is not None and min(one.palm, other.palm) >= SURE_PALMS
    if overlap > (OTHER_IOU if sure else TRUSTED_IOU):
        return True  # whatever the joints say, which take longest
    joints = float(np.linalg.norm(one.points - other.points, axis=1).mean()) / larger
    if sure and joints > OTHER_JOINTS and iou(one.palm_box, other.palm_box) < OTHER_PALM_IOU and overlap < OTHER_IOU:
        return False
    if overlap > TRUSTED_IOU or joints < TRUSTED_JOINTS or _apart(one, other) < TRUSTED_CENTRES:
        return True
    shared = intersection(one.hand_box, other.hand_box)
    return shared > PART_INSIDE * min(area(one.hand_box), area(other.hand_box)) and smaller < PART_SIZE * larger


def _apart(one: Candidate, other: Candidate) -> float:
    """Returns the distance of two hands' centres, in the larger one's sides."""
    larger = max(side(one.hand_box), side(other.hand_box))
    return apart(centre(one.hand_box), centre(other.hand_box)) / larger


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
