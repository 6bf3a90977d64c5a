"""When and where the landmark model looks."""

import numpy as np
import pytest

from worker.hands.geometry import RotatedSquare
from worker.hands.landmarks import LANDMARK_INPUT, LANDMARKS, Landmarks
from worker.hands.looks import deserves_look, deserves_second_look, look_at_palms, look_at_posed_hands
from worker.hands.networks import answered
from worker.hands.palm import Palms
from worker.hands.poses import PosedHand

BOX = np.array([0, 0, 100, 100], np.float32)
POINTS = np.array([[50, 100], [30, 0], [50, 0], [70, 0], [90, 10], [10, 90], [0, 60]], np.float32)
JOINTS = np.zeros((21, 2), np.float32)
JOINTS[[0, 5, 9, 13, 17, 1, 2]] = POINTS  # the joints at the palm's points
HAND = PosedHand(np.array([50, 50], np.float32), 100, 0.9, 0.8, right=True, square=RotatedSquare(50, 50, 200, 0))


class Looks:
    """A landmark model with prepared answers."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, request):
        """Returns the next answers."""
        assert request.network is LANDMARKS
        self.asked.append(len(request.squares))
        return [self.row(self.answers.pop(0), square) for square in request.squares]

    @staticmethod
    def row(answer, square):
        """Returns what the network's outputs are for an answer: joints in the crop, presence and side."""
        joints = np.zeros((21, 3), np.float32)
        joints[:, :2] = square.from_image(answer.points, LANDMARK_INPUT)
        return np.array([*joints.reshape(-1), answer.presence, answer.right])


def palms(*scores):
    """Returns palms at the same place with these scores."""
    count = len(scores)
    return Palms(np.tile(BOX, (count, 1)), np.tile(POINTS, (count, 1, 1)), np.array(scores))


def seen(presence, shift=0.0, right=0.0):
    """Returns an answer with joints that are shifted to the right."""
    return Landmarks(presence, right, JOINTS + np.array([shift, 0], np.float32))


@pytest.mark.parametrize(
    ("palm", "posed", "looks"),
    [
        (0.15, [], True),
        (0.14, [], False),
        (0.14, [HAND], True),  # a pose's hand at the same place
        (0.01, [HAND], True),
        (0.14, [PosedHand(np.array([124, 50]), 100, 0.9, 0.8, True, HAND.square)], True),
        (0.14, [PosedHand(np.array([126, 50]), 100, 0.9, 0.8, True, HAND.square)], False),
    ],
)
def test_which_palms_are_examined(palm, posed, looks):
    """Likely ones, and those near a pose's hand."""
    assert deserves_look(BOX, palm, posed, alone=0.15) is looks


@pytest.mark.parametrize(
    ("presence", "palm", "again"),
    [(0.95, 0.9, False), (0.89, 0.1, True), (0.05, 0.1, True), (0.04, 0.49, False), (0.04, 0.5, True)],
)
def test_second_looks(presence, palm, again):
    """A palm is looked at again unless the first look is sure, or its presence too low and the palm unlikely."""
    assert deserves_second_look(presence, palm) is again


@pytest.mark.parametrize(
    ("answers", "presence", "looks"),
    [
        ([seen(0.95)], 0.95, 1),
        ([seen(0.3), seen(0.8)], 0.8, 2),
        ([seen(0.3), seen(0.2)], 0.3, 2),  # the second look isn't better
        ([seen(0.3), seen(0.99, shift=79)], 0.99, 2),
        ([seen(0.3), seen(0.99, shift=81)], 0.3, 2),  # it is at another hand
        ([seen(0.01)], 0.01, 1),
    ],
)
def test_a_palm(answers, presence, looks):
    """The better look counts, unless it is at another hand."""
    look = Looks(*answers)
    [found] = answered(look_at_palms(palms(0.4)), look)
    assert (found.presence, found.palm, found.visibility, sum(look.asked)) == (presence, 0.4, None, looks)


def test_all_palms_at_once():
    """All first looks are one request, and all second looks another; each palm keeps its own."""
    look = Looks(seen(0.95), seen(0.3), seen(0.01), seen(0.2), seen(0.8), seen(0.1))
    found = answered(look_at_palms(palms(0.4, 0.4, 0.4, 0.9)), look)
    assert look.asked == [4, 2]
    assert [each.presence for each in found] == [0.95, 0.8, 0.01, 0.2]
    assert answered(look_at_palms(palms()), Looks()) == []


def test_the_box_of_a_palm():
    """With trusted joints it is around them, else at the usual place in the crop."""
    [sure] = answered(look_at_palms(palms(0.4)), Looks(seen(0.95)))
    assert sure.joints is not None
    np.testing.assert_allclose(sure.hand_box, [0, 0, 90, 100], atol=1e-4)
    [guess] = answered(look_at_palms(palms(0.4)), Looks(seen(0.01)))
    assert guess.joints is None
    assert guess.hand_box[1] < 0  # the fingers are above the palm


@pytest.mark.parametrize(
    ("answers", "presence", "right", "box"),
    [
        ([seen(0.1), seen(0.2)], 0.2, True, [0, 0, 100, 100]),  # box and side are the pose's
        ([seen(0.95), seen(0.9)], 0.95, False, [0, 0, 90, 100]),  # those of the joints; looked at twice all the same
        ([seen(0.1), seen(0.95, right=1.0)], 0.95, True, [0, 0, 90, 100]),
        ([seen(0.1), seen(0.95, shift=170)], 0.1, True, [0, 0, 100, 100]),  # it is at another hand
    ],
)
def test_a_posed_hand(answers, presence, right, box):
    """A pose's hand is looked at twice; without trusted joints its box and side are the pose's."""
    look = Looks(*answers)
    [found] = answered(look_at_posed_hands([HAND]), look)
    assert look.asked == [1, 1]
    assert (found.presence, found.palm, found.visibility, found.right) == (presence, None, 0.9, right)
    np.testing.assert_allclose(found.hand_box, box, atol=1e-4)
    np.testing.assert_allclose(found.palm_box, [15, 15, 85, 85])
