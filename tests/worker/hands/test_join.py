"""Which palms and poses' hands are the same hand."""

import numpy as np
import pytest

from worker.hands.candidate import Candidate
from worker.hands.geometry import RotatedSquare
from worker.hands.join import join, side_of
from worker.hands.poses import PosedHand


def palm(x, y=0.0, *, side=50.0, hand=None, presence=0.99):
    """Returns a right hand with its palm around x, y; its hand is around `hand`."""
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    middle = (x, y) if hand is None else hand
    return Candidate(
        palm_box=box,
        hand_box=np.array([middle[0] - side, middle[1] - side, middle[0] + side, middle[1] + side], np.float32),
        points=np.zeros((21, 2), np.float32),
        presence=presence,
        right=True,
        palm=0.9,
    )


def posed(x, y=0.0, *, size=80.0):
    """Returns a pose's left hand."""
    square = RotatedSquare(x, y, 2 * size, 0)
    return PosedHand(np.array([x, y], np.float32), size, 0.9, 0.8, right=False, square=square)


@pytest.mark.parametrize(
    ("palms", "hands", "joined"),
    [
        ([], [posed(0)], []),
        ([palm(0)], [], [None]),
        ([palm(0)], [posed(0)], [0]),
        ([palm(0)], [posed(59)], [0]),  # both are 80 pixels: closer than three quarters of that
        ([palm(0)], [posed(61)], [None]),
        ([palm(0, hand=(50, 0))], [posed(80)], [0]),  # the hand's centre is closer than the palm's
        ([palm(0)], [posed(30), posed(20)], [1]),  # the closest
        ([palm(0), palm(20)], [posed(10)], [0, 0]),  # one hand that was found as two palms
        ([palm(0), palm(100)], [posed(90), posed(10)], [1, 0]),
        ([palm(0)], [posed(0, size=321)], [None]),  # more than four times as large
        ([palm(0)], [posed(0, size=319)], [0]),
        ([palm(0)], [posed(0, size=19)], [None]),
        ([palm(0)], [posed(0, size=21)], [0]),
        ([palm(0)], [posed(0, size=0)], [None]),
    ],
)
def test_what_is_joined(palms, hands, joined):
    """A palm takes the closest hand of a pose that is near and of a similar size; a pose's hand may serve several palms."""
    assert join(palms, hands) == joined


@pytest.mark.parametrize(("presence", "right"), [(0.95, True), (0.9, True), (0.89, False), (0.0, False)])
def test_the_side(presence, right):
    """The landmark model tells the side if it is sure of the hand, else the pose does."""
    assert side_of(palm(0, presence=presence), posed(0)) is right
