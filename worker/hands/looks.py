"""Looks at places where hands may be, with the landmark model; a second time where that can change the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from worker.hands.candidate import Candidate, around, centre
from worker.hands.geometry import Floats, RotatedSquare
from worker.hands.landmarks import Landmarks, distance_to_palm, square_of_joints, square_of_palm
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


Look = Callable[[RotatedSquare], Landmarks]
"""Runs the landmark model on a rotated square of the picture."""


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
    return any(float(np.linalg.norm(middle - hand.centre)) < NEAR_POSED_HAND * hand.size for hand in posed)


def deserves_second_look(presence: float, palm: float) -> bool:
    """Returns whether a palm is looked at again: if the first look leaves it open whether a hand is there."""
    return presence < SURE_PRESENCE and (presence >= PRESENCE_FLOOR or palm >= LIKELY_PALM)


def look_at_palm(look: Look, box: Floats, points: Floats, palm: float) -> Candidate:
    """Examines a palm.

    Args:
        look: runs the landmark model.
        box: (4,) the palm's box.
        points: (7, 2) the palm's points.
        palm: its score.
    """
    square = square_of_palm(box, points)
    seen = look(square)
    if deserves_second_look(seen.presence, palm):
        again = look(square_of_joints(seen.points))
        if again.presence > seen.presence and distance_to_palm(again.points, box, points) < MAX_PALM_DRIFT:
            seen = again
    outline = seen.points if seen.presence >= TRUSTED_PRESENCE else square.to_image(_HAND_IN_SQUARE, 1)
    return Candidate(
        palm_box=box,
        hand_box=around(outline),
        points=seen.points,
        presence=seen.presence,
        right=seen.right > 0.5,
        palm=palm,
    )


def look_at_posed_hand(look: Look, hand: PosedHand) -> Candidate:
    """Examines a posed hand, always twice: the first crop is only roughly in place."""
    seen = look(hand.square)
    again = look(square_of_joints(seen.points))
    drift = float(np.linalg.norm(again.points.mean(axis=0) - hand.centre))
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
