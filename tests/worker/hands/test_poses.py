"""Where a pose's hands are."""

import numpy as np
import pytest

from worker.hands.poses import ARMS, Pose, posed_hand, posed_hands, square_of_person

LEFT, RIGHT = ARMS


def pose(*, flag=0.9, seen=0.9, shift=(0, 0), left_seen=0.0, forearm=40.0):
    """Returns a person whose right arm points to the right: wrist at 100, 100, knuckles 20 further."""
    joints, visible = np.zeros((39, 2), np.float32), np.zeros(39, np.float32)
    joints[RIGHT.elbow], joints[RIGHT.wrist] = (100 - forearm, 100), (100, 100)
    joints[RIGHT.index_knuckle], joints[RIGHT.little_knuckle] = (120, 97), (120, 106)
    joints[LEFT.wrist], joints[LEFT.elbow] = (400, 400), (400, 360)
    joints[[LEFT.index_knuckle, LEFT.little_knuckle]] = (400, 420)
    visible[RIGHT.wrist], visible[LEFT.wrist] = seen, left_seen
    return Pose(flag, joints + np.array(shift, np.float32), visible)


def test_a_hand_at_the_end_of_an_arm():
    """It is between the knuckles, nearer to the index finger's, as large as knuckles or forearm say, and points outwards."""
    hand = posed_hand(pose(), RIGHT)
    np.testing.assert_allclose(hand.centre, [120, 100])
    assert hand.size == pytest.approx(44)  # 2.2 times the 20 to the knuckles; 0.55 times the forearm of 40 is less
    assert posed_hand(pose(forearm=120), RIGHT).size == pytest.approx(66)
    assert hand.right
    assert hand.confidence == pytest.approx(0.81)
    assert hand.square.angle == pytest.approx(np.pi / 2)
    assert hand.square.side == pytest.approx(2.7 * 40)


@pytest.mark.parametrize(
    ("poses", "sides"),
    [
        ([], []),
        ([pose()], [True]),
        ([pose(seen=0.29)], []),  # hidden
        ([pose(seen=0.31)], [True]),
        ([pose(flag=0.49)], []),  # no person
        ([pose(left_seen=0.95)], [False, True]),  # the surest first
        ([pose(), pose(shift=(10, 0), seen=0.8)], [True]),  # two poses of one person
        ([pose(), pose(shift=(30, 0), seen=0.8)], [True, True]),  # 0.68 hands apart
    ],
)
def test_visible_hands_once(poses, sides):
    """Visible hands of persons are returned once each."""
    assert [hand.right for hand in posed_hands(poses)] == sides


def test_the_crop_of_a_person():
    """It is around the hips, two and a half times as wide as the body reaches, and the body is upright in it."""
    square = square_of_person(np.array([[100, 200], [180, 200], [0, 0], [0, 0]], np.float32))
    assert (square.x, square.y, square.side) == pytest.approx((100, 200, 200))
    assert square.angle == pytest.approx(np.pi / 2)
    assert square_of_person(np.zeros((4, 2), np.float32)).side == 1  # points that coincide still have a crop
