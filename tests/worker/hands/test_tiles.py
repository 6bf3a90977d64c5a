"""The views that a picture is divided into."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.hands.anchors import PALM_INPUT
from worker.hands.geometry import View
from worker.hands.tiles import OVERLAP, views


@pytest.mark.parametrize(
    ("width", "height", "tiles", "count"),
    [
        (640, 480, 0, 1),
        (640, 480, 1, 1),
        (640, 480, 2, 5),
        (1280, 720, 2, 5),
        (1280, 720, 3, 10),
        (3, 5000, 2, 5),
        (224, 224, 2, 1),  # hardly larger than the model's input
        (8, 8, 3, 1),
        (300, 300, 3, 5),  # three tiles would be smaller than the model's input
    ],
)
def test_how_many_views(width, height, tiles, count):
    """The whole picture comes first, then the tiles that show more detail."""
    found = views(width, height, tiles)
    assert len(found) == count
    assert found[0] == View(0, 0, width, height)


@settings(max_examples=60)
@given(width=st.integers(1, 2000), height=st.integers(1, 2000), tiles=st.integers(2, 4))
def test_tiles_cover_the_picture(width, height, tiles):
    """Every pixel is in a tile, every tile is inside the picture, and none is magnified to fill the model's input."""
    whole, *tiled = views(width, height, tiles)
    rows, columns = np.zeros(height, bool), np.zeros(width, bool)
    for tile in tiled:
        assert tile.x >= 0
        assert tile.y >= 0
        assert tile.x + tile.width <= width
        assert tile.y + tile.height <= height
        assert tile.side >= PALM_INPUT - 1
        rows[tile.y : tile.y + tile.height] = True
        columns[tile.x : tile.x + tile.width] = True
    assert not tiled or (rows.all() and columns.all())
    assert tiled or whole.side < 1.25 * PALM_INPUT


@settings(max_examples=60)
@given(length=st.integers(241, 4000), tiles=st.integers(2, 5))
def test_neighbours_overlap(length, tiles):
    """Neighbouring tiles overlap by the documented share, to within rounding."""
    starts = sorted({(tile.x, tile.width) for tile in views(length, length, tiles)[1:]})
    for (start, span), (following, _) in pairwise(starts):
        assert start + span - following >= (OVERLAP - 0.02) * span - 1
