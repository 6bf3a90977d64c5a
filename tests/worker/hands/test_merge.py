"""Which detections are the same hand."""

import numpy as np
import pytest

from worker.hands.geometry import View
from worker.hands.merge import Detection, cut_by, distinct_hands, group_palms
from worker.hands.palm import Palms

RNG = np.random.default_rng(7)
JOINTS = RNG.uniform(0, 100, (21, 2)).astype(np.float32)
JOINTS[0], JOINTS[9] = (50, 100), (50, 50)  # the wrist below the middle knuckle


def found(x=0.0, y=0.0, *, trusted=True, palm_score=0.9, score=0.9, palm=(30, 50, 80, 100)):
    """Returns a detection of a hand of 100 pixels whose upper left corner is at x, y."""
    shift = np.array([x, y], np.float32)
    return Detection(
        palm_box=(np.array(palm, np.float32) + np.tile(shift, 2)).astype(np.float32),
        palm_score=palm_score,
        hand_box=np.array([x, y, x + 100, y + 100], np.float32),
        joints=JOINTS + shift if trusted else None,
        score=score,
    )


@pytest.mark.parametrize(
    ("one", "other", "hands"),
    [
        (found(), found(), 1),
        (found(), found(20), 1),  # joints 20 % of a hand apart
        (found(), found(50), 2),
        (found(), found(300), 2),
        (found(), found(10, trusted=False), 1),  # a palm inside the hand
        (found(), found(150, trusted=False), 2),
        (found(trusted=False), found(10, trusted=False), 1),
        (found(trusted=False), found(150, trusted=False), 2),
        (found(), found(palm=(90, 50, 140, 100)), 2),  # two sure palms side by side: hands that hold each other
        (found(), found(palm=(90, 50, 140, 100), palm_score=0.5), 1),  # unless one has a low score
        (found(), found(0, 70, trusted=False), 1),  # below the wrist: the forearm
        (found(), found(0, 70), 2),  # but not if it has trusted joints
        (found(), found(0, 250, trusted=False), 2),  # too far away for the forearm
        (found(), found(70, 70, trusted=False), 2),  # beside it
    ],
)
def test_one_hand_or_two(one, other, hands):
    """Trusted joints decide whether two detections are one hand, else palms and boxes do; the order doesn't matter."""
    assert len(distinct_hands([one, other])) == hands
    assert len(distinct_hands([other, one])) == hands


def test_trusted_joints_are_preferred_to_a_better_score():
    """Of several detections of one hand the surest with trusted joints is kept."""
    hands = [found(trusted=False, score=0.99), found(score=0.7), found(5, score=0.8)]
    assert distinct_hands(hands) == [2]


def test_nothing_found():
    """No detections give no hands."""
    assert distinct_hands([]) == []


def test_coinciding_joints_have_no_forearm():
    """A hand whose joints coincide has no direction, so nothing is taken for its forearm."""
    flat = Detection(*(getattr(found(), name) for name in ("palm_box", "palm_score", "hand_box")), JOINTS * 0, 0.9)
    assert len(distinct_hands([flat, found(300, trusted=False)])) == 2


@pytest.mark.parametrize(
    ("view", "box", "cut"),
    [
        (View(0, 0, 100, 100), (10, 10, 50, 50), False),
        (View(0, 0, 100, 100), (80, 10, 110, 50), True),  # beyond the tile's right border
        (View(0, 0, 100, 100), (10, 80, 50, 110), True),
        (View(0, 0, 100, 100), (-10, 10, 50, 50), False),  # beyond the picture's own border
        (View(100, 100, 100, 100), (90, 150, 120, 180), True),
        (View(100, 100, 100, 100), (150, 90, 180, 120), True),
        (View(100, 100, 100, 100), (180, 180, 220, 220), False),
        (View(0, 0, 200, 200), (-10, -10, 210, 210), False),  # the whole picture cuts nothing
    ],
)
def test_cut_by_a_view(view, box, cut):
    """A palm is cut if it reaches beyond a border of its view that is inside the picture of 200 x 200."""
    assert cut_by(view, np.array([box], np.float32), 200, 200).tolist() == [cut]


def test_palms_of_several_views_are_grouped():
    """Palms that overlap by more than half of their union form a group, the surest first; the others are alone."""
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10], [1, 0, 11, 10], [5, 0, 15, 10]], np.float32)
    palms = Palms(boxes, np.zeros((4, 7, 2), np.float32), np.array([0.5, 0.6, 0.9, 0.4], np.float32))
    assert [group.tolist() for group in group_palms(palms)] == [[2, 0], [1], [3]]
    assert group_palms(palms[:0]) == []
