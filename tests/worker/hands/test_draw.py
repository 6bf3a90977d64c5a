"""Annotated pictures."""

from itertools import pairwise

import numpy as np
import pytest

from worker.hands.detection import Hands
from worker.hands.draw import FINGERS, annotate, draw_skeleton


def hands(joints=None, right=True, box=(40, 60, 120, 180)):
    """Returns one hand."""
    return Hands(
        boxes=np.array([box], np.float32),
        is_right=np.array([right]),
        scores=np.array([0.75], np.float32),
        keypoints=np.full((1, 21, 2), np.nan, np.float32) if joints is None else joints[None].astype(np.float32),
    )


def test_the_skeleton_is_five_fingers_from_the_wrist():
    """Every joint but the wrist belongs to one finger, from its root to its tip."""
    assert [finger[0] for finger in FINGERS] == [0] * 5
    assert [joint for finger in FINGERS for joint in finger[1:]] == list(range(1, 21))


def test_every_joint_and_bone_is_drawn():
    """Every joint and the middle of every bone is painted over."""
    joints = np.random.default_rng(1).uniform(20, 280, (21, 2))
    image = np.zeros((300, 300, 3), np.uint8)
    draw_skeleton(image, joints, (60, 180, 60), 1.0)
    for finger in FINGERS:
        for start, end in pairwise(finger):
            x, y = np.floor((joints[start] + joints[end]) / 2).astype(int)
            assert image[y - 1 : y + 2, x - 1 : x + 2].any()
            assert image[int(joints[end][1]), int(joints[end][0])].any()


def test_box_joints_and_count_are_drawn():
    """The box, the joints and the count are in the copy; the original is unchanged."""
    image = np.zeros((240, 320, 3), np.uint8)
    joints = np.tile([80.0, 120.0], (21, 1))
    joints[12] = (80, 70)
    drawn = annotate(image, hands(joints))
    assert not image.any()
    assert drawn[100, 40].any()  # the box's left side
    assert drawn[180, 100].any()  # and its lower one
    assert drawn[70, 80].any()  # a finger tip
    assert drawn[90, 80].any() or drawn[95, 80].any()  # and the bone to it
    assert drawn[:20, :40].any()  # the count
    assert not drawn[200:, 200:].any()


def test_sides_differ_in_colour_and_unknown_joints_are_not_drawn():
    """Left and right hands have different colours; without trusted joints the box is empty."""
    image = np.zeros((240, 320, 3), np.uint8)
    right, left = annotate(image, hands()), annotate(image, hands(right=False))
    assert (right[120, 40] != left[120, 40]).any()
    assert not right[100:170, 60:110].any()


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (20, 2000)])
def test_any_size_can_be_drawn_on(shape):
    """Tiny pictures, and joints far outside, are no error."""
    image = np.zeros((*shape, 3), np.uint8)
    for place in ([-500.0, 9000.0], [1e12, -1e12]):
        joints = np.tile(place, (21, 1))
        assert annotate(image, hands(joints, box=(0, 0, 1, 1))).shape == image.shape
    assert annotate(image, Hands.empty()).shape == image.shape
