"""Boxes, letterboxes and rotated crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hands.geometry import RotatedSquare, View, areas, clip_boxes, intersections, iou, ious, upward_angle

sides = st.integers(1, 4000)
coordinates = st.floats(-3000, 3000, width=32)
squares = st.builds(
    RotatedSquare, x=coordinates, y=coordinates, side=st.floats(1, 3000), angle=st.floats(-np.pi, np.pi)
)


def boxes(*rows):
    """Returns rows of x0, y0, x1, y1 as an array."""
    return np.array(rows, np.float32).reshape(-1, 4)


@given(x=st.integers(0, 500), y=st.integers(0, 500), width=sides, height=sides, size=st.sampled_from([192, 224]))
def test_letterbox_corners_are_the_views_corners(x, y, width, height, size):
    """The corners of the content in the model's input map to the corners of the view in the picture."""
    view = View(x, y, width, height)
    left, top, content_width, content_height = view.letterbox(size)
    corners = np.array([[left, top], [left + content_width, top + content_height]], np.float32)
    np.testing.assert_allclose(
        view.to_image(corners, size), [[x, y], [x + width, y + height]], atol=max(width, height) * 1e-5
    )


@given(width=sides, height=sides)
def test_letterbox_fits_and_is_centred(width, height):
    """The longer side fills the input; the shorter one leaves bars that are equal to within a pixel."""
    x, y, content_width, content_height = View(0, 0, width, height).letterbox(192)
    assert max(content_width, content_height) == 192
    assert min(content_width, content_height) >= 1
    assert abs(2 * x + content_width - 192) <= 1
    assert abs(2 * y + content_height - 192) <= 1


@given(square=squares, points=st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5))
def test_a_rotated_square_inverts_itself(square, points):
    """A point converted to the square and back is the same point."""
    points = np.array(points, np.float32)
    there = square.from_image(points, 224)
    np.testing.assert_allclose(square.to_image(there, 224), points, atol=0.05)


@given(square=squares)
def test_a_rotated_square_has_its_centre_and_side(square):
    """The middle of the crop is the square's centre, and its corners are a side apart."""
    corners = square.to_image(np.array([[0, 0], [1, 0], [0.5, 0.5]], np.float32), 1)
    np.testing.assert_allclose(corners[2], [square.x, square.y], atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(corners[1] - corners[0]), square.side, rtol=1e-3, atol=1e-2)


@given(square=squares)
def test_up_in_the_crop_is_the_squares_angle(square):
    """The crop's upward direction is the angle's direction in the picture."""
    base, tip = square.to_image(np.array([[0.5, 1], [0.5, 0]], np.float32), 1)
    difference = upward_angle(base, tip) - square.angle
    assert abs(np.sin(difference / 2)) < 1e-2


@pytest.mark.parametrize(
    ("tip", "turns"),
    [((0, -1), 0), ((1, 0), 0.25), ((0, 1), 0.5), ((-1, 0), -0.25), ((1, -1), 0.125)],
)
def test_upward_angle(tip, turns):
    """The angle is 0 upwards and increases clockwise."""
    assert upward_angle(np.zeros(2), np.array(tip)) == pytest.approx(turns * 2 * np.pi)


@pytest.mark.parametrize(
    ("a", "b", "shared", "share"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 4, 1),
        ((0, 0, 2, 1), (1, 0, 3, 1), 1, 1 / 3),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4, 1 / 4),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0, 0),  # touching
        ((0, 0, 1, 1), (5, 5, 6, 6), 0, 0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0, 0),  # empty, no division by zero
    ],
)
def test_overlaps(a, b, shared, share):
    """Intersections, and their share of the union, are symmetric."""
    for one, other in ((a, b), (b, a)):
        assert intersections(boxes(one), boxes(other))[0, 0] == shared
        assert ious(boxes(one), boxes(other))[0, 0] == pytest.approx(share)
        assert iou(boxes(one)[0], boxes(other)[0]) == pytest.approx(share)


def test_areas_and_clipping():
    """An inverted box has no area; clipping keeps boxes inside the picture."""
    assert areas(boxes((0, 0, 2, 3), (2, 2, 1, 1))).tolist() == [6, 0]
    assert clip_boxes(boxes((-5, 2, 700, 490)), 640, 480).tolist() == [[0, 2, 640, 480]]
