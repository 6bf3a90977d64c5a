"""Joins palms with the hands of poses: which two are the same hand. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

from worker.hands.candidate import Candidate, centre, side
from worker.hands.geometry import apart
from worker.hands.poses import PosedHand

MAX_DISTANCE = 0.75
"""A palm and a posed hand are the same hand below this distance, in half the sum of both hands' sizes."""

PALM_TO_HAND = 1.6
"""Size of a hand, as its box, in sides of its palm's box."""

SURE_PRESENCE = 0.9
"""From this presence on the landmark model tells the side, below it the pose: it knows to which arm a hand belongs, but
takes one arm for the other when a person turns the back."""

MAX_SIZE_RATIO = 4.0
"""Hands whose sizes differ by more than this factor aren't the same: a face in the background, a hand in front."""


def join(palms: Sequence[Candidate], posed: Sequence[PosedHand]) -> list[int | None]:
    """Returns for each palm the posed hand that it is, the closest first; None for a palm without one.

    A palm takes one posed hand. A posed hand may serve several palms, because one hand is often found as several palms,
    which become one later (:mod:`worker.hands.duplicates`).
    """
    pairs = [
        (far, row, column)
        for row, palm in enumerate(palms)
        for column, hand in enumerate(posed)
        if (far := distance(palm, hand)) < MAX_DISTANCE
    ]
    joined: list[int | None] = [None] * len(palms)
    for _, row, column in sorted(pairs):
        if joined[row] is None:
            joined[row] = column
    return joined


def side_of(palm: Candidate, hand: PosedHand) -> bool:
    """Returns whether a palm's hand is the person's right one: the landmark model decides, unless its presence is low."""
    return palm.right if palm.presence >= SURE_PRESENCE else hand.right


def distance(palm: Candidate, hand: PosedHand) -> float:
    """Returns how far a palm is from a posed hand, in half the sum of their sizes; infinity if their sizes differ too much.

    The hand's centre or the palm's counts, whichever is closer: the posed hand is somewhere between them.
    """
    size = PALM_TO_HAND * side(palm.palm_box)
    if hand.size <= 0 or not 1 / MAX_SIZE_RATIO < size / hand.size < MAX_SIZE_RATIO:
        return float("inf")
    closest = min(apart(centre(palm.hand_box), hand.centre), apart(centre(palm.palm_box), hand.centre))
    return closest / max(1.0, (size + hand.size) / 2)
