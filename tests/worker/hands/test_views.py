"""The views that a picture is divided into."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.hands.anchors import PALM_INPUT
from worker.hands.geometry import View
from worker.hands.views import OVERLAP, cut_by, grid_views, inner_borders


@pytest.mark.parametrize(
    ("width", "height", "grids", "counts"),
    [
        (640, 480, (1,), [1]),
        (640, 480, (1, 2), [1, 4]),
        (1280, 720, (1, 2, 3), [1, 4, 9]),
        (3, 5000, (1, 2), [1, 4]),
        (224, 224, (1, 2), [1]),  # hardly larger than the palm model's input
        (8, 8, (1, 3), [1]),
        (300, 300, (1, 3), [1, 4]),  # three tiles a side would be smaller than the palm model's input
        (300, 300, (1, 2, 3), [1, 4]),  # so they would be the same as two
        (640, 480, (), []),
    ],
)
def test_how_many_views(width, height, grids, counts):
    """Each grid's views come in a list of their own; a grid without more detail is left out."""
    found = grid_views(width, height, grids)
    assert [len(views) for views in found] == counts
    assert not grids or found[0] == [View(0, 0, width, height)]


@settings(max_examples=60)
@given(width=st.integers(1, 2000), height=st.integers(1, 2000), tiles=st.integers(2, 4))
def test_tiles_cover_the_picture(width, height, tiles):
    """Every pixel is in a tile, every tile is inside the picture, and none is magnified to fill the model's input."""
    whole, *grids = grid_views(width, height, (1, tiles))
    tiled = grids[0] if grids else []
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
    assert tiled or whole[0].side < 1.25 * PALM_INPUT


@settings(max_examples=60)
@given(length=st.integers(241, 4000), tiles=st.integers(2, 5))
def test_neighbours_overlap(length, tiles):
    """Neighbouring tiles overlap by the documented share, to within rounding."""
    (tiled,) = grid_views(length, length, (tiles,))
    starts = sorted({(tile.x, tile.width) for tile in tiled})
    assert len(starts) > 1
    for (start, span), (following, _) in pairwise(starts):
        assert start + span - following >= (OVERLAP - 0.02) * span - 1


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
    assert cut_by(inner_borders([view], 200, 200), np.array([box], np.float32)).tolist() == [cut]
