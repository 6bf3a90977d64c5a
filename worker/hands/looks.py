"""Looks at places where hands may be, with the landmark model; a second time where that can change the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from worker.hands.candidate import Candidate, around, centre
from worker.hands.geometry import Floats, RotatedSquare, apart
from worker.hands.landmarks import Landmarks, distance_to_palm, read_landmarks, square_of_joints, square_of_palm
from worker.hands.networks import Steps
from worker.hands.palm import Palms
from worker.hands.poses import PosedHand
from worker.hands.score import TRUSTED_PRESENCE

SURE_PRESENCE = 0.9
"""From this presence on, a second look finds the same joints."""

PRESENCE_FLOOR = 0.05
"""Below this presence a second look finds a hand only by chance, unless the palm is likely."""

NEAR_POSED_HAND = 0.75
"""A palm is near a posed hand if it is closer than this, in the hand's sizes."""

LIKELY_PALM = 0.5
"""From this palm score on there is a second look, however low the presence: the first crop may have been turned wrongly."""

MAX_PALM_DRIFT = 0.8
"""A second look is at another hand if its joints are farther from the palm than this, in sides of the palm."""

MAX_POSE_DRIFT = 1.2
"""The same for a posed hand: distance of the joints' mean from its centre, in its sizes. Poses are less exact."""

_PALM_IN_POSED_HAND = 0.7
"""Side of the palm's box in sizes of a posed hand."""

# The corners of a hand's box in the landmark model's crop: medians over hands with a high presence.
_HAND_IN_SQUARE = np.array([[0.27, 0.22], [0.72, 0.22], [0.72, 0.86], [0.27, 0.86]], np.float32)


def deserves_look(box: Floats, palm: float, posed: Iterable[PosedHand], *, alone: float) -> bool:
    """Returns whether a palm is examined: if it is likely enough by itself, or near a posed hand.

    Most palms with a low score are folds and shadows. A look at one costs as much as searching another view, and without a
    posed hand even a high presence makes it a counted hand only rarely.

    Args:
        box: (4,) the palm's box.
        palm: its score, high enough to be examined near a posed hand.
        posed: the posed hands.
        alone: the lowest score without one.
    """
    if palm >= alone:
        return True
    middle = centre(box)
    return any(apart(middle, hand.centre) < NEAR_POSED_HAND * hand.size for hand in posed)


def deserves_second_look(presence: float, palm: float) -> bool:
    """Returns whether a palm is looked at again: if the first look leaves it open whether a hand is there."""
    return presence < SURE_PRESENCE and (presence >= PRESENCE_FLOOR or palm >= LIKELY_PALM)


def look_at_palms(palms: Palms) -> Steps[list[Candidate]]:
    """Examines palms, all of them at once; then those that deserve it a second time."""
    squares = [square_of_palm(box, points) for box, points in zip(palms.boxes, palms.points, strict=True)]
    seen = yield from read_landmarks(squares)
    scores = palms.scores.tolist()
    again = [i for i, first in enumerate(seen) if deserves_second_look(first.presence, scores[i])]
    second = yield from read_landmarks([square_of_joints(seen[i].points) for i in again])
    for i, later in zip(again, second, strict=True):
        drift = distance_to_palm(later.points, palms.boxes[i], palms.points[i])
        if later.presence > seen[i].presence and drift < MAX_PALM_DRIFT:
            seen[i] = later
    return [
        _of_palm(box, palm, square, best)
        for box, palm, square, best in zip(palms.boxes, scores, squares, seen, strict=True)
    ]


def look_at_posed_hands(hands: Sequence[PosedHand]) -> Steps[list[Candidate]]:
    """Examines posed hands, always twice: the first crop is only roughly in place."""
    seen = yield from read_landmarks([hand.square for hand in hands])
    second = yield from read_landmarks([square_of_joints(first.points) for first in seen])
    return [_of_posed_hand(hand, *both) for hand, *both in zip(hands, seen, second, strict=True)]


def _of_palm(box: Floats, palm: float, square: RotatedSquare, seen: Landmarks) -> Candidate:
    outline = seen.points if seen.presence >= TRUSTED_PRESENCE else square.to_image(_HAND_IN_SQUARE, 1)
    return Candidate(
        palm_box=box,
        hand_box=around(outline),
        points=seen.points,
        presence=seen.presence,
        right=seen.right > 0.5,
        palm=palm,
    )


def _of_posed_hand(hand: PosedHand, seen: Landmarks, again: Landmarks) -> Candidate:
    drift = apart(again.points.mean(axis=0), hand.centre)
    if again.presence > seen.presence and drift < MAX_POSE_DRIFT * hand.size:
        seen = again
    trusted = seen.presence >= TRUSTED_PRESENCE
    half, palm_half = np.float32(hand.size / 2), np.float32(hand.size * _PALM_IN_POSED_HAND / 2)
    outline = seen.points if trusted else np.stack([hand.centre - half, hand.centre + half])
    return Candidate(
        palm_box=np.concatenate([hand.centre - palm_half, hand.centre + palm_half]).astype(np.float32),
        hand_box=around(outline),
        points=seen.points,
        presence=seen.presence,
        right=seen.right > 0.5 if trusted else hand.right,
        visibility=hand.visibility,
    )
