"""The views in which palms are searched once persons are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.hands.crops import CROP_SIDE, crops, palm_views
from worker.hands.geometry import RotatedSquare, View
from worker.hands.poses import PosedHand
from worker.hands.views import grid_views


def posed(x=400.0, y=300.0, size=20.0):
    """Returns a posed hand."""
    square = RotatedSquare(x, y, 2 * size, 0.0)
    return PosedHand(np.array([x, y], np.float32), size, 0.9, 0.8, right=True, square=square)


@pytest.mark.parametrize(
    ("hands", "views"),
    [
        ([], []),
        ([posed()], [View(346, 251, 104, 104)]),  # five hands wide, in the nearest size of crops
        ([posed(size=2)], [View(380, 280, 40, 40)]),  # as if it had 8 pixels
        ([posed(size=63)], [View(240, 133, 320, 320)]),
        ([posed(size=65)], []),  # the tile of 400 pixels shows it as well
        ([posed(x=10)], [View(0, 251, 61, 104)]),  # clipped
        ([posed(x=795, y=595)], [View(744, 545, 56, 55)]),
        ([posed(x=-1)], []),  # outside
        ([posed(y=600)], []),
        ([posed(), posed(x=424)], [View(346, 251, 104, 104)]),  # both in one crop
        ([posed(), posed(x=426)], [View(346, 251, 104, 104), View(372, 251, 104, 104)]),
        (
            [posed(), posed(x=410, size=15)],
            [View(346, 251, 104, 104), View(373, 263, 73, 73)],
        ),  # too small in the first
        ([posed(), posed(x=410, size=16)], [View(346, 251, 104, 104)]),
    ],
)
def test_crops(hands, views):
    """A small hand in the picture has a crop, unless another one's crop shows it."""
    assert crops(800, 600, hands, tile=400) == views


@settings(max_examples=60)
@given(
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
    x=st.floats(-100, 2100),
    y=st.floats(-100, 2100),
    size=st.floats(0, 500),
)
def test_crops_are_inside_the_picture(width, height, x, y, size):
    """A crop has pixels, none outside the picture, and is closer than the tile."""
    for view in crops(width, height, [posed(x, y, size)], tile=400):
        assert view.x >= 0
        assert view.y >= 0
        assert view.width >= 1
        assert view.height >= 1
        assert view.x + view.width <= width
        assert view.y + view.height <= height
        assert view.side <= 0.8 * 400 + 2


@settings(max_examples=60)
@given(x=st.floats(200, 1800), y=st.floats(200, 1000), size=st.floats(8, 60))
def test_a_crop_is_as_large_as_wanted_around_its_hand(x, y, size):
    """Its side is within 5 % of five hands, and its middle no further from the hand than a twenty-fourth of that."""
    (view,) = crops(2000, 1200, [posed(x, y, size)], tile=400)
    assert view.width == view.height == pytest.approx(CROP_SIDE * size, rel=0.05, abs=0.5)
    middle = view.x + view.width / 2, view.y + view.height / 2
    assert middle == pytest.approx((x, y), abs=CROP_SIDE * size * 1.05 / 24 + 1)


def test_the_last_digits_of_a_pose_hardly_ever_move_a_crop():
    """Of crops whose poses are off by 0.005 pixels 3 in 1,000 are others; with borders at the next pixel, 50 would be."""
    random = np.random.default_rng(1)
    exact = random.uniform((200, 200, 8), (1800, 1000, 60), (5_000, 3))
    other = exact + random.choice([-0.005, 0.005], exact.shape)
    moved = sum(
        crops(2000, 1200, [posed(*before)], tile=400) != crops(2000, 1200, [posed(*after)], tile=400)
        for before, after in zip(exact.tolist(), other.tolist(), strict=True)
    )
    assert moved < 0.004 * len(exact)


@pytest.mark.parametrize(
    ("bodies", "left"),
    [
        ([], list(range(9))),
        ([RotatedSquare(640, 360, 100, 0.0)], [0, 1, 2, 3, 5, 6, 7, 8]),  # in the middle of the picture
        ([RotatedSquare(640, 360, 600, 2.0)], [0, 2, 3, 5, 6, 8]),  # fills the middle column, however it is turned
        ([RotatedSquare(640, 360, 3000, 0.0)], []),
        ([RotatedSquare(220, 120, 60, 0.0), RotatedSquare(1060, 600, 60, 0.0)], [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_the_finest_tiles_are_left_out_where_persons_are(bodies, left):
    """The whole picture and 2 x 2 tiles are always searched; of 3 x 3, the tiles with no person in the middle."""
    whole, large, fine = grid_views(1280, 720, (1, 2, 3))
    assert palm_views(1280, 720, (1, 2, 3), bodies, []) == [*whole, *large, *(fine[index] for index in left)]


def test_crops_come_besides_the_tiles():
    """Hands have their crops after the grids, closer than the 2 x 2 tiles."""
    views = palm_views(1280, 720, (1, 2, 3), [], [posed(), posed(x=900, size=120)])
    assert len(views) == 1 + 4 + 9 + 1
    assert views[-1].side == pytest.approx(CROP_SIDE * 20, rel=0.05)


def test_a_small_picture_has_no_finer_tiles_to_leave_out():
    """A picture of a single view is always searched, whoever fills it."""
    assert palm_views(200, 200, (1, 2, 3), [RotatedSquare(100, 100, 300, 0.0)], []) == [View(0, 0, 200, 200)]
