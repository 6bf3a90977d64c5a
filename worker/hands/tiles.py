"""Divides a picture into the views that the palm model searches."""

from __future__ import annotations

import math

from worker.hands.anchors import PALM_INPUT
from worker.hands.geometry import View

OVERLAP = 0.15
"""Share of a tile that overlaps its neighbour. A hand smaller than the overlap is complete in one of the tiles; a larger
one is large enough to be found in the whole picture. More overlap means larger tiles, which show less detail."""

_WORTHWHILE = 1.25
"""A picture whose longer side is below this many model inputs isn't divided: tiles would show hardly more detail."""


def views(width: int, height: int, tiles: int) -> list[View]:
    """Returns the whole picture and, with `tiles` > 1, `tiles` x `tiles` overlapping parts of it, row by row.

    Small hands are lost when a large picture is shrunk to the model's input; tiles keep them. A small picture has fewer
    tiles, and one that is hardly larger than the model's input has none.

    Args:
        width: the picture's width in pixels, at least 1.
        height: the picture's height in pixels, at least 1.
        tiles: tiles per side; 0 and 1 both mean the whole picture alone.
    """
    whole = View(0, 0, width, height)
    if tiles < 2 or whole.side < _WORTHWHILE * PALM_INPUT:
        return [whole]
    # No tile is smaller than the model's input: a magnified picture shows no more detail.
    share = max(1 / (tiles - (tiles - 1) * OVERLAP), PALM_INPUT / whole.side)
    return [
        whole,
        *(View(x, y, w, h) for y, h in _spans(height, share) for x, w in _spans(width, share)),
    ]


def _spans(length: int, share: float) -> list[tuple[int, int]]:
    """Returns (start, length) of equal spans that cover 0..length, each a share of it, neighbours with OVERLAP in common."""
    span = min(length, max(1, round(length * share)))
    if span == length:
        return [(0, length)]
    # Rounding may shorten a span by half a pixel; the missing overlap mustn't cost another span.
    count = max(2, math.ceil((length - span) / (span * (1 - OVERLAP)) - 0.02) + 1)
    return [(round(i * (length - span) / (count - 1)), span) for i in range(count)]
