"""The picture at several sizes, from which the models' inputs are cut.

Each level has half the width and height of the one before it, averaged over 2 x 2 pixels. An input is cut from the
smallest level that is at least as fine as the input. Averaging all pixels of a large picture anew for each of many inputs
costs several times as much; sampling single pixels of it would turn texture into noise.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.hands.geometry import RotatedSquare, View

Picture = NDArray[np.uint8]


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

    def letterboxed(self, view: View, size: int) -> tuple[Picture, View]:
        """Cuts a view out.

        Args:
            view: a part of the picture.
            size: side of the square input, in pixels.

        Returns:
            (size, size, 3) uint8, RGB, with black bars if the view isn't square; and the part of the picture that it
            shows, which is the view to within a pixel of the level from which it was cut.
        """
        depth, level = self._level(view.side / size)
        height, width = level.shape[:2]
        x, y = min(round(view.x / depth), width - 1), min(round(view.y / depth), height - 1)
        right, bottom = round((view.x + view.width) / depth), round((view.y + view.height) / depth)
        columns, rows = min(max(1, right - x), width - x), min(max(1, bottom - y), height - y)
        shown = View(x * depth, y * depth, columns * depth, rows * depth)
        left, top, across, down = shown.letterbox(size)
        shrinks = max(columns, rows) > size
        content = cv2.resize(
            level[y : y + rows, x : x + columns],
            (across, down),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        canvas = np.zeros((size, size, 3), np.uint8)
        canvas[top : top + down, left : left + across] = cv2.cvtColor(content, cv2.COLOR_BGR2RGB)
        return canvas, shown

    def upright(self, square: RotatedSquare, size: int) -> Picture:
        """Cuts a rotated square out.

        Returns:
            (size, size, 3) uint8, RGB, black outside the picture.
        """
        depth, level = self._level(square.side / size)
        matrix = square.matrix(size) / depth
        # OpenCV's coordinates refer to pixel centres, half a pixel from ours on both sides.
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        crop = cv2.warpAffine(level, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)

    def _level(self, shrinking: float) -> tuple[int, Picture]:
        """Returns the smallest level for an input that is smaller by this factor, and how much smaller that level is."""
        wanted = max(0, math.floor(math.log2(shrinking))) if shrinking > 1 else 0
        while len(self._levels) <= wanted:
            height, width = (side // 2 for side in self._levels[-1].shape[:2])
            if not width or not height:
                break
            even = self._levels[-1][: 2 * height, : 2 * width]
            half = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
            self._levels.append(half.astype(np.uint8, copy=False))
        index = min(wanted, len(self._levels) - 1)
        return 2**index, self._levels[index]
