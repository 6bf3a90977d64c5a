"""The picture at several sizes, from which the models' inputs are cut.

Each level has half the width and height of the one before it, averaged over 2 x 2 pixels. An input is cut from the
smallest level that is at least as fine as the input. Averaging all pixels of a large picture anew for each of many inputs
costs several times as much; sampling single pixels of it would turn texture into noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.hands.geometry import RotatedSquare, View

Picture = NDArray[np.uint8]


class Cut(NamedTuple):
    """Where an input is cut from."""

    level: int
    """Of the pyramid; 0 is the picture itself."""
    x: int
    """Left border in the level's pixels."""
    y: int
    """Top border in the level's pixels."""
    columns: int
    """Width in the level's pixels, at least 1."""
    rows: int
    """Height in the level's pixels, at least 1."""
    shown: View
    """The part of the picture that the input shows: the wanted view to within a pixel of the level."""


def cut_of(view: View, size: int, width: int, height: int) -> Cut:
    """Returns where a view of a picture is cut from.

    Args:
        view: a part of the picture.
        size: side of the square input, in pixels.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    level = level_of(view.side / size, width, height)
    depth, (columns, rows) = 1 << level, level_size(level, width, height)
    x, y = min(round(view.x / depth), columns - 1), min(round(view.y / depth), rows - 1)
    right, bottom = round((view.x + view.width) / depth), round((view.y + view.height) / depth)
    columns, rows = min(max(1, right - x), columns - x), min(max(1, bottom - y), rows - y)
    # A level of a thin picture is one pixel high, which may be more than the picture is.
    across, down = min(columns * depth, width - x * depth), min(rows * depth, height - y * depth)
    return Cut(level, x, y, columns, rows, View(x * depth, y * depth, across, down))


def level_of(shrinking: float, width: int, height: int) -> int:
    """Returns the smallest level of a picture that is at least as fine as an input that is smaller by this factor."""
    wanted = math.floor(math.log2(shrinking)) if shrinking > 1 else 0
    return min(wanted, levels(width, height) - 1)


def levels(width: int, height: int) -> int:
    """Returns how many levels a picture has: the last one is a single pixel."""
    return max(width, height).bit_length()


def level_size(level: int, width: int, height: int) -> tuple[int, int]:
    """Returns the width and height of a level of a picture."""
    return max(1, width >> level), max(1, height >> level)


def halved(image: Picture, out: Picture | None = None) -> Picture:
    """Returns the next level, each pixel the mean of 2 x 2; written to `out` if that is given."""
    rows, columns = image.shape[:2]
    width, height = level_size(1, columns, rows)
    even = image[: 2 * height, : 2 * width]
    return cv2.resize(even, (width, height), dst=out, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def pixel_matrix(square: RotatedSquare, size: int, level: int) -> NDArray[np.float64]:
    """Returns the (2, 3) matrix from the indices of a crop's pixels to those of a level's.

    Indices are of pixel centres, half a pixel from our coordinates on both sides.
    """
    matrix = square.matrix(size) / (1 << level)
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return matrix


class Pyramid:
    """One picture at several sizes. Levels are made when they are first needed."""

    def __init__(self, image: Picture) -> None:
        """Takes a picture: (H, W, 3) uint8, BGR."""
        self._levels = [image]

    @property
    def width(self) -> int:
        """Width of the picture, pixels."""
        return int(self._levels[0].shape[1])

    @property
    def height(self) -> int:
        """Height of the picture, pixels."""
        return int(self._levels[0].shape[0])

    def letterboxed(self, view: View, size: int) -> Picture:
        """Cuts a view out.

        Args:
            view: a part of the picture.
            size: side of the square input, in pixels.

        Returns:
            (size, size, 3) uint8, RGB, with black bars if the view isn't square; it shows `cut_of(...).shown`.
        """
        cut = cut_of(view, size, self.width, self.height)
        left, top, across, down = cut.shown.letterbox(size)
        shrinks = max(cut.columns, cut.rows) > size
        content = cv2.resize(
            self._level(cut.level)[cut.y : cut.y + cut.rows, cut.x : cut.x + cut.columns],
            (across, down),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        canvas = np.zeros((size, size, 3), np.uint8)
        canvas[top : top + down, left : left + across] = cv2.cvtColor(content, cv2.COLOR_BGR2RGB)
        return canvas

    def upright(self, square: RotatedSquare, size: int) -> Picture:
        """Cuts a rotated square out.

        Returns:
            (size, size, 3) uint8, RGB, black outside the picture.
        """
        level = level_of(square.side / size, self.width, self.height)
        matrix = pixel_matrix(square, size, level)
        crop = cv2.warpAffine(self._level(level), matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

    def _level(self, level: int) -> Picture:
        while len(self._levels) <= level:
            self._levels.append(halved(self._levels[-1]))
        return self._levels[level]
