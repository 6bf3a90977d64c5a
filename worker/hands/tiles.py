"""Cuts a picture into the views that the palm model looks at."""

from __future__ import annotations

from worker.hands.anchors import PALM_INPUT
from worker.hands.geometry import View

OVERLAP = 1 / 3
"""Share of a tile that it has in common with its neighbour: a hand smaller than that is whole in one of them."""


def views(width: int, height: int, tiles: int) -> list[View]:
    """Give the whole picture and, with `tiles` > 1, `tiles` x `tiles` overlapping parts of it, row by row.

    Tiles exist because small hands are lost when a large picture is shrunk to the model's input; a picture that
    isn't larger than the input is left whole.

    Args:
        width: The picture's width in pixels, at least 1.
        height: The picture's height in pixels, at least 1.
        tiles: Tiles per side; 0 and 1 both mean the whole picture alone.
    """
    whole = View(0, 0, width, height)
    if tiles < 2 or whole.side <= PALM_INPUT:
        return [whole]
    return [
        whole,
        *(View(x, y, w, h) for y, h in _spans(height, tiles) for x, w in _spans(width, tiles)),
    ]


def _spans(length: int, tiles: int) -> list[tuple[int, int]]:
    """Give (start, length) of equal, overlapping spans that together cover 0..length."""
    span = min(length, round(length / (tiles - (tiles - 1) * OVERLAP)))
    span = max(span, 1)
    return [(round(i * (length - span) / (tiles - 1)), span) for i in range(tiles)]
