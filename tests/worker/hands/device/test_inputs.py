"""Inputs cut on the device, compared with OpenCV's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.hands.device.arena import Arena
from worker.hands.device.inputs import crop_rows, letterboxed, upright, view_rows
from worker.hands.geometry import RotatedSquare, View
from worker.hands.pyramid import Pyramid
from worker.hands.views import grid_views

SIZE = 96
MOST_OFF = 2e-3
"""Share of the values that may be off, by one grey level: where the exact one is halfway between two."""


def assert_close(found, expected):
    """Asserts that two batches of pictures are the same but for a grey level in few places."""
    difference = np.abs(found.numpy() - np.stack(expected).astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= MOST_OFF


@pytest.fixture
def arena():
    """Room for a few pictures."""
    return Arena(torch.device("cpu"), 4_000_000)


@pytest.mark.parametrize("size", [(1280, 720), (641, 479), (700, 1500), (100, 80), (300, 2), (2, 700), (1, 1)])
def test_views_are_those_of_opencv(arena, size):
    """Tiles of a picture and small crops of it, shrunk or enlarged, with bars; and the thinnest pictures."""
    width, height = size
    image = np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)
    views = [view for grid in grid_views(width, height, (1, 2, 3)) for view in grid]
    views += [View(width // 3, height // 4, max(1, width // 9), max(1, height // 7)), View(width - 1, height - 1, 1, 1)]
    placed, pyramid = arena.place(image), Pyramid(image)
    found = letterboxed(arena.pixels, torch.from_numpy(view_rows(placed, views, SIZE)), SIZE)
    assert_close(found, [pyramid.letterboxed(view, SIZE) for view in views])


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    place=st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5)),
    side=st.floats(1, 3000),
    angle=st.floats(-4, 4),
)
def test_crops_are_those_of_opencv(size, place, side, angle):
    """Wherever they are, partly or wholly outside the picture too."""
    width, height = size
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    square = RotatedSquare(place[0] * width, place[1] * height, side, angle)
    arena = Arena(torch.device("cpu"), 400_000)
    found = upright(arena.pixels, torch.from_numpy(crop_rows(arena.place(image), [square], SIZE)), SIZE)
    difference = np.abs(found[0].numpy() - Pyramid(image).upright(square, SIZE).astype(int))
    assert (difference > 1).mean() <= MOST_OFF  # at the picture's border, rounding decides what is inside


def test_inputs_of_several_pictures_are_cut_together(arena):
    """Each from its own picture, in any order."""
    images = [np.full((h, w, 3), (b, 40, 200), np.uint8) for w, h, b in ((640, 480, 10), (97, 33, 90), (300, 900, 250))]
    placed = [arena.place(image) for image in images]
    views = [view_rows(each, [View(0, 0, each.width, each.height)], SIZE) for each in placed]
    squares = [crop_rows(each, [RotatedSquare(each.width / 2, each.height / 2, 8, 1)], SIZE) for each in placed]
    for order in ((0, 1, 2), (2, 0, 1)):
        for cut, rows in ((letterboxed, views), (upright, squares)):
            found = cut(arena.pixels, torch.from_numpy(np.concatenate([rows[i] for i in order])), SIZE)
            middles = [each[SIZE // 2, SIZE // 2].tolist() for each in found]
            assert middles == [[200, 40, (10, 90, 250)[i]] for i in order]
