"""Inputs cut from the picture at several sizes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.hands.geometry import RotatedSquare, View
from worker.hands.pyramid import Pyramid, cut_of


def test_the_input_is_rgb_with_black_bars():
    """A wide view is centred between black bars, in RGB."""
    image = np.zeros((100, 400, 3), np.uint8)
    image[:] = (255, 0, 51)  # BGR
    view = View(0, 0, 400, 100)
    content, shown = Pyramid(image).letterboxed(view, 192), cut_of(view, 192, 400, 100).shown
    assert content.shape == (192, 192, 3)
    assert content.dtype == np.uint8
    assert shown == view
    np.testing.assert_array_equal(content[96, 96], [51, 0, 255])
    assert not content[:72].any()
    assert not content[120:].any()
    assert content[72:120].any(axis=-1).all()


@settings(max_examples=80)
@given(
    size=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    share=st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
)
def test_what_is_shown_is_the_view(size, corner, share):
    """The part that is shown is inside the picture, and the view to within a pixel of the level it was cut from."""
    width, height = size
    x, y = int(corner[0] * width), int(corner[1] * height)
    view = View(x, y, max(1, int(share[0] * (width - x))), max(1, int(share[1] * (height - y))))
    assert Pyramid(np.zeros((height, width, 3), np.uint8)).letterboxed(view, 64).shape == (64, 64, 3)
    shown = cut_of(view, 64, width, height).shown
    level = max(1.0, view.side / 64)
    assert shown.x >= 0
    assert shown.y >= 0
    assert shown.x + shown.width <= width
    assert shown.y + shown.height <= height
    assert abs(shown.x - view.x) <= level
    assert abs(shown.y - view.y) <= level
    assert abs(shown.x + shown.width - view.x - view.width) <= 2 * level
    assert abs(shown.y + shown.height - view.y - view.height) <= 2 * level


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (1921, 1081)])
def test_a_level_is_like_averaging_the_picture(size):
    """A view cut from a level differs little from one averaged over the whole picture."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (9, 16, 3), np.uint8)
    image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    view = View(0, 0, *size)
    content = Pyramid(image).letterboxed(view, 192)
    x, y, width, height = cut_of(view, 192, *size).shown.letterbox(192)
    whole = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    difference = np.abs(content[y : y + height, x : x + width].astype(int) - whole)
    assert difference.mean() < 1.5


@pytest.mark.parametrize("side", [112, 224, 700, 1500])
def test_the_angle_points_up_in_the_crop(side):
    """A bar along the square's direction is upright in the crop, at every scale, and the colours are RGB."""
    square = RotatedSquare(900, 900, side, np.pi / 2)
    image = np.zeros((1800, 1800, 3), np.uint8)
    image[900 - side // 20 : 900 + side // 20, 900 : 900 + side // 2] = (255, 0, 51)  # from the centre to the right
    crop = Pyramid(image).upright(square, 224)
    assert crop.shape == (224, 224, 3)
    np.testing.assert_allclose(crop[40, 112], [51, 0, 255], atol=3)
    assert not crop[180, 112].any()
    assert not crop[40, 40].any()


def test_crops_outside_the_picture_are_black():
    """A crop outside the picture is black, not an error, and so is a huge one of a tiny picture."""
    pyramid = Pyramid(np.full((10, 10, 3), 255, np.uint8))
    crop = pyramid.upright(RotatedSquare(-500, 4000, 100, 1), 224)
    assert crop.shape == (224, 224, 3)
    assert not crop.any()
    assert pyramid.upright(RotatedSquare(5, 5, 1e6, 0), 224).mean() < 1
