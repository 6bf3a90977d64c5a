"""The landmark model's crops, and the model itself on synthetic hands."""

import numpy as np
import pytest
from support.models.synthetic_hands import scene

from worker.hands.geometry import RotatedSquare
from worker.hands.landmarks import distance_to_palm, read_landmarks, square_of_joints, square_of_palm
from worker.hands.litert_engine import LiteRtEngine
from worker.hands.networks import answered


def palm(angle=0.0):
    """Returns the box and points of a palm of side 100 around (200, 300) that points to `angle`, degrees clockwise."""
    turn = np.deg2rad(angle)
    up = np.array([np.sin(turn), -np.cos(turn)])
    points = np.tile(np.array([200.0, 300.0]), (7, 1))
    points[0] -= 50 * up
    points[2] += 50 * up
    return np.array([150, 250, 250, 350], np.float32), points.astype(np.float32)


@pytest.mark.parametrize(("angle", "centre"), [(0, (200, 250)), (90, (250, 300)), (180, (200, 350)), (-90, (150, 300))])
def test_the_crop_of_a_palm_includes_the_fingers(angle, centre):
    """The crop is 2.6 palms wide, shifted by half a palm towards the fingers, and rotated so that they point up."""
    square = square_of_palm(*palm(angle))
    assert (square.x, square.y) == pytest.approx(centre, abs=1e-3)
    assert square.side == pytest.approx(260)
    assert np.sin(square.angle - np.deg2rad(angle)) == pytest.approx(0, abs=1e-6)


def test_the_crop_of_joints_contains_them_all():
    """The crop of known joints contains all of them with a margin, whichever way the hand points."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = rng.uniform(0, 300, (21, 2)).astype(np.float32)
        inside = square_of_joints(joints).from_image(joints, 1)
        assert inside.min() > 0.1
        assert inside.max() < 0.9


def test_distance_to_palm():
    """Joints at the palm's points have distance 0; shifted by a palm's side they have distance 1."""
    box, points = palm()
    joints = np.zeros((21, 2), np.float32)
    joints[[0, 5, 9, 13, 17, 1, 2]] = points
    assert distance_to_palm(joints, box, points) == 0
    assert distance_to_palm(joints + np.array([100, 0], np.float32), box, points) == pytest.approx(1)


@pytest.mark.parametrize("right", [True, False])
def test_the_side_is_the_anatomical_one(models, right):
    """A right hand is classified as right, its joints are on it, and the background has a low presence."""
    image, [box] = scene(((320, 260), 110, 0, right))
    x0, y0, x1, y1 = box
    at_the_hand = RotatedSquare((x0 + x1) / 2, (y0 + y1) / 2, 1.4 * (y1 - y0), 0.0)
    with LiteRtEngine(models).open(image) as answer:
        found, elsewhere = answered(read_landmarks([at_the_hand, RotatedSquare(60, 60, 100, 0.0)]), answer)
    assert found.presence > 0.5
    assert (found.right > 0.5) == right
    assert ((found.points > [x0 - 15, y0 - 15]) & (found.points < [x1 + 15, y1 + 30])).all()
    assert elsewhere.presence < 0.1
