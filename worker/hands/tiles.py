"""Cuts a picture into the views that the palm model looks at."""

from __future__ import annotations

import math

from worker.hands.anchors import PALM_INPUT
from worker.hands.geometry import View

OVERLAP = 0.15
"""Share of a tile that it has in common with its neighbour. A hand smaller than that is whole in one of them; a larger
one is large enough to be found in the whole picture. More overlap means larger tiles, which show less detail."""

_WORTHWHILE = 1.25
"""A picture whose longer side is below this many model inputs is left whole: tiles would show hardly more."""


def views(width: int, height: int, tiles: int) -> list[View]:
    """Give the whole picture and, with `tiles` > 1, `tiles` x `tiles` overlapping parts of it, row by row.

    Tiles exist because small hands are lost when a large picture is shrunk to the model's input. There are fewer of
    them in a small picture, and none in one that isn't larger than the input.

    Args:
        width: The picture's width in pixels, at least 1.
        height: The picture's height in pixels, at least 1.
        tiles: Tiles per side; 0 and 1 both mean the whole picture alone.
    """
    whole = View(0, 0, width, height)
    if tiles < 2 or whole.side < _WORTHWHILE * PALM_INPUT:
        return [whole]
    # No tile is smaller than the model's input: there is nothing to see in a picture blown up, but noise.
    share = max(1 / (tiles - (tiles - 1) * OVERLAP), PALM_INPUT / whole.side)
    return [
        whole,
        *(View(x, y, w, h) for y, h in _spans(height, share) for x, w in _spans(width, share)),
    ]


def _spans(length: int, share: float) -> list[tuple[int, int]]:
    """Give (start, length) of equal spans that together cover 0..length, each a share of it, OVERLAP in common."""
    span = min(length, max(1, round(length * share)))
    if span == length:
        return [(0, length)]
    # Rounding makes a span up to half a pixel short; that much less overlap must not cost another one.
    count = max(2, math.ceil((length - span) / (span * (1 - OVERLAP)) - 0.02) + 1)
    return [(round(i * (length - span) / (count - 1)), span) for i in range(count)]
