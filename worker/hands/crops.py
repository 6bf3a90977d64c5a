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
        side = _side(hand)
        inside = 0 <= x < width and 0 <= y < height
        if not inside or side > WORTHWHILE * tile or any(_shows(other, hand) for other in kept):
            continue
        kept.append(hand)
        left, top = max(0, int(x - side / 2)), max(0, int(y - side / 2))
        right, bottom = min(width, math.ceil(x + side / 2)), min(height, math.ceil(y + side / 2))
        views.append(View(left, top, right - left, bottom - top))
    return views


def _side(hand: PosedHand) -> float:
    return CROP_SIDE * max(hand.size, MIN_HAND)


def _shows(kept: PosedHand, hand: PosedHand) -> bool:
    """Returns whether the crop around one hand shows another hand as well as its own crop would."""
    apart = float(np.linalg.norm(kept.centre - hand.centre))
    return apart < SAME_PLACE * _side(hand) and _side(kept) < SAME_SIZE * _side(hand)


def _fills(body: RotatedSquare, view: View) -> bool:
    """Returns whether the middle of a view is in the upright square around a person."""
    x, y = view.x + view.width / 2, view.y + view.height / 2
    return max(abs(x - body.x), abs(y - body.y)) < body.side / 2
