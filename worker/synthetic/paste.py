"""Draws a sprite into a picture."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.synthetic.hand import Sprite
from worker.synthetic.scene import Extent


def paste(image: NDArray[np.uint8], sprite: Sprite, x: float, y: float, *, turn: float, scale: float) -> None:
    """Draws a rotated and scaled sprite, processing only the window that it covers.

    Args:
        image: (H, W, 3) uint8 BGR; modified.
        sprite: what is drawn; what is outside the picture isn't.
        x: of the sprite's centre, pixels.
        y: of the sprite's centre, pixels.
        turn: degrees, clockwise.
        scale: pixels of the picture per pixel of the sprite.
    """
    reach = Extent.of(sprite.outline, [turn], scale)
    x0, y0 = max(0, math.floor(x + reach.left) - 1), max(0, math.floor(y + reach.top) - 1)
    x1 = min(image.shape[1], math.ceil(x + reach.right) + 2)
    y1 = min(image.shape[0], math.ceil(y + reach.bottom) + 2)
    if x0 >= x1 or y0 >= y1:
        return
    finer = max(1, math.floor(1 / scale))
    drawn = _averaged(sprite, finer)
    height, width = drawn.shape[:2]
    # cv2 rotates counterclockwise. The matrix maps the sprite's centre to its position in the window.
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn, scale * finer)
    matrix[:, 2] += (x - x0 - (width - 1) / 2, y - y0 - (height - 1) / 2)
    warped = cv2.warpAffine(drawn, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    window = image[y0:y1, x0:x1]
    colour, alpha = warped[:, :, :3], cv2.cvtColor(255 - warped[:, :, 3], cv2.COLOR_GRAY2BGR)
    cv2.add(cv2.multiply(window, alpha, scale=1 / 255), colour, dst=window)


@functools.lru_cache(32)
def _averaged(sprite: Sprite, finer: int) -> NDArray[np.uint8]:
    """Returns a sprite so many times smaller. One that shrinks a lot is averaged first, or single pixels of it would be drawn.

    A camera draws the same few sprites at nearly the same scale in each frame.
    """
    if finer == 1:
        return sprite.image
    height, width = sprite.image.shape[:2]
    size = (max(1, width // finer), max(1, height // finer))
    return cv2.resize(sprite.image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
