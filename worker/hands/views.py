"""Divides a picture into the views that the palm model and the person model search. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from worker.hands.anchors import PALM_INPUT
from worker.hands.geometry import Floats, View

OVERLAP = 0.15
"""Share of a tile that overlaps its neighbour. A hand smaller than the overlap is complete in one of the tiles; a larger
one is large enough to be found in the whole picture. More overlap means larger tiles, which show less detail."""

_WORTHWHILE = 1.25
"""A picture whose longer side is below this many palm inputs isn't divided: tiles would show hardly more detail."""


def grid_views(width: int, height: int, grids: Iterable[int]) -> list[list[View]]:
    """Returns the views of each grid: for n, n x n overlapping tiles of the same size, row by row; for 1, the whole picture.

    Small hands are lost when a large picture is shrunk to a model's input; tiles keep them. A small picture has fewer
    tiles, and a grid without more detail than the one before it is left out.

    Args:
        width: the picture's width in pixels, at least 1.
        height: the picture's height in pixels, at least 1.
        grids: tiles per side, each at least 1, ascending.
    """
    found: list[list[View]] = []
    for tiles in grids:
        views = list(_grid(width, height, tiles))
        if tiles == 1 or (len(views) > 1 and (not found or views != found[-1])):
            found.append(views)
    return found


def inner_borders(views: Sequence[View], width: int, height: int) -> Floats:
    """Returns (N, 4) x0, y0, x1, y1 of views, with infinity in place of the borders that they share with the picture."""
    low = np.array([(view.x, view.y) for view in views], np.float32).reshape(-1, 2)
    high = low + np.array([(view.width, view.height) for view in views], np.float32).reshape(-1, 2)
    low[low <= 0] = -np.inf
    high[high >= np.array([width, height], np.float32)] = np.inf
    return np.concatenate([low, high], axis=1)


def cut_by(borders: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Returns which (N, 4) boxes found in views reach beyond one of their (N, 4) borders that isn't the picture's border.

    The model guesses palms that a view shows only in part, and another view shows all of them: tiles overlap, and palms
    larger than the overlap are large enough for the view of the whole picture.
    """
    beyond = (boxes[:, :2] < borders[:, :2]) | (boxes[:, 2:] > borders[:, 2:])
    return np.asarray(beyond.any(axis=1), np.bool_)


@functools.lru_cache(maxsize=256)
def _grid(width: int, height: int, tiles: int) -> tuple[View, ...]:
    """Returns the views of one grid; for a picture that is too small, the whole picture alone."""
    whole = View(0, 0, width, height)
    if tiles < 2 or whole.side < _WORTHWHILE * PALM_INPUT:
        return (whole,)
    # No tile is smaller than the palm model's input: a magnified picture shows no more detail.
    share = max(1 / (tiles - (tiles - 1) * OVERLAP), PALM_INPUT / whole.side)
    return tuple(View(x, y, w, h) for y, h in _spans(height, share) for x, w in _spans(width, share))


def _spans(length: int, share: float) -> list[tuple[int, int]]:
    """Returns (start, length) of equal spans that cover 0..length, each a share of it, neighbours with OVERLAP in common."""
    span = min(length, max(1, round(length * share)))
    if span == length:
        return [(0, length)]
    # Rounding may shorten a span by half a pixel; the missing overlap mustn't cost another span.
    count = max(2, math.ceil((length - span) / (span * (1 - OVERLAP)) - 0.02) + 1)
    return [(round(i * (length - span) / (count - 1)), span) for i in range(count)]
