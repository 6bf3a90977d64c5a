"""Chooses the views in which palms are searched once persons are known: closer to their hands, and not in every tile.

A far person's palms are only a few pixels large in a tile, but the pose shows where they are, so that a crop can show them
larger. In exchange the finest tiles are left out where a person is. Pure numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from worker.hands.geometry import RotatedSquare, View
from worker.hands.poses import PosedHand
from worker.hands.views import grid_views

CROP_SIDE = 5.0
"""Side of the crop around a posed hand, in the hand's sizes. The palm is then an eighth of the crop, 24 pixels of the
model's input. Closer crops show palms that aren't any, and wider ones gain little over the tiles (docs/counting.md)."""

MIN_HAND = 8.0
"""Pixels. Smaller hands have a crop as if they were this large: the pose places them no more exactly."""

SIDES_PER_DOUBLING, PLACES_PER_SIDE = 8, 12
"""Crops have few sizes, each 9 % larger than the one before it, and begin at multiples of a twelfth of their side. So another
rounding of a network's numbers hardly ever moves a crop. Borders rounded to the next pixel would often move, and in the crop of
a small hand one pixel is five of the model's input."""

WORTHWHILE = 0.8
"""A crop that isn't smaller than this share of a tile that is searched anyway shows hardly more than that tile."""

SAME_PLACE, SAME_SIZE = 0.25, 1.3
"""A crop shows another hand, too, if that is closer to its centre than this share of the crop's side and not smaller than
the crop's own hand by more than this factor."""

_ALWAYS = 2
"""This many grids, the whole picture and the largest tiles, are searched everywhere: they show hands that no pose has, too."""


def palm_views(
    width: int, height: int, grids: Iterable[int], bodies: Sequence[RotatedSquare], hands: Iterable[PosedHand]
) -> list[View]:
    """Returns the views in which palms are searched.

    Args:
        width: the picture's width in pixels, at least 1.
        height: the picture's height in pixels, at least 1.
        grids: tiles per side, ascending, the first one 1 (see :func:`worker.hands.views.grid_views`).
        bodies: the crops of the persons that have a pose.
        hands: the posed hands, highest `confidence` first.
    """
    found = grid_views(width, height, grids)
    always = [view for grid in found[:_ALWAYS] for view in grid]
    fine = [view for grid in found[_ALWAYS:] for view in grid if not any(_fills(body, view) for body in bodies)]
    return [*always, *fine, *crops(width, height, hands, always[-1].side)]


def crops(width: int, height: int, hands: Iterable[PosedHand], tile: int) -> list[View]:
    """Returns square crops around hands, clipped at the picture's borders; one for hands that are close together.

    Args:
        width: the picture's width in pixels, at least 1.
        height: the picture's height in pixels, at least 1.
        hands: highest `confidence` first; those outside the picture have no crop.
        tile: side in pixels of the smallest view that is searched anyway.
    """
    kept: list[PosedHand] = []
    views = []
    for hand in hands:
        x, y = (float(value) for value in hand.centre)
        inside = 0 <= x < width and 0 <= y < height
        if not inside or _side(hand) > WORTHWHILE * tile or any(_shows(other, hand) for other in kept):
            continue
        kept.append(hand)
        side = _near(_side(hand))
        (left, right), (top, bottom) = _span(x, side, width), _span(y, side, height)
        views.append(View(left, top, right - left, bottom - top))
    return views


def _side(hand: PosedHand) -> float:
    """Returns the side of the crop that shows a hand best, pixels."""
    return CROP_SIDE * max(hand.size, MIN_HAND)


def _near(side: float) -> float:
    """Returns the nearest of the sides that crops have."""
    least = CROP_SIDE * MIN_HAND
    return float(least * 2.0 ** (round(SIDES_PER_DOUBLING * math.log2(side / least)) / SIDES_PER_DOUBLING))


def _span(middle: float, side: float, length: int) -> tuple[int, int]:
    """Returns where a crop begins and ends along one axis, in pixels of 0..length, which `middle` is in."""
    step = side / PLACES_PER_SIDE
    begin = round(round((middle - side / 2) / step) * step)
    return max(0, begin), min(length, begin + round(side))


def _shows(kept: PosedHand, hand: PosedHand) -> bool:
    """Returns whether the crop around one hand shows another hand as well as its own crop would."""
    apart = float(np.linalg.norm(kept.centre - hand.centre))
    return apart < SAME_PLACE * _side(hand) and _side(kept) < SAME_SIZE * _side(hand)


def _fills(body: RotatedSquare, view: View) -> bool:
    """Returns whether the middle of a view is in the upright square around a person."""
    x, y = view.x + view.width / 2, view.y + view.height / 2
    return max(abs(x - body.x), abs(y - body.y)) < body.side / 2
