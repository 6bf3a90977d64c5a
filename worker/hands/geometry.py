"""Boxes, letterboxes and rotated crops: conversions between a model's coordinates and the picture's. Pure numpy.

Coordinates are continuous: pixel (i, j) covers the square from (i, j) to (i + 1, j + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""What detectors compute with: the networks' numbers, boxes and joints."""

Doubles = NDArray[np.float64]
"""What HaMeR's cameras need: they magnify small differences."""

Reals = NDArray[np.floating]
"""Either of them."""


@dataclass(frozen=True)
class View:
    """A part of the picture that is one input of the palm model.

    Its longer side fills the model's square input; the shorter side is centred between black bars.
    """

    x: int
    """Left border in the picture's pixels."""
    y: int
    """Top border in the picture's pixels."""
    width: int
    """Width in the picture's pixels."""
    height: int
    """Height in the picture's pixels."""

    @property
    def side(self) -> int:
        """The longer side, which fills the model's input, in the picture's pixels."""
        return max(self.width, self.height)

    def letterbox(self, size: int) -> tuple[int, int, int, int]:
        """Returns the view's place in a square input of `size` pixels, as x, y, width, height.

        These are whole pixels; width and height are at least 1.
        """
        width = max(1, round(self.width * size / self.side))
        height = max(1, round(self.height * size / self.side))
        return (size - width) // 2, (size - height) // 2, width, height

    def to_image(self, points: Floats, size: int) -> Floats:
        """Converts points of a letterboxed input to the picture's pixels.

        Args:
            points: (..., 2) x, y in input pixels.
            size: side of the square input.

        Returns:
            (..., 2) x, y in the picture's pixels.
        """
        x, y, width, height = self.letterbox(size)
        scale = np.array([self.width / width, self.height / height], np.float32)
        return ((points - np.array([x, y], np.float32)) * scale + np.array([self.x, self.y], np.float32)).astype(
            np.float32
        )


@dataclass(frozen=True)
class RotatedSquare:
    """A square part of the picture, rotated so that a hand in it points up: the landmark model's input."""

    x: float
    """Centre in the picture's pixels."""
    y: float
    """Centre in the picture's pixels."""
    side: float
    """Side in the picture's pixels."""
    angle: float
    """Clockwise rotation (in the picture) of the square's upward direction, radians; 0 is upright."""

    def matrix(self, size: int) -> Doubles:
        """Returns the (2, 3) affine matrix from the square's `size` x `size` pixels to the picture's."""
        scale = self.side / size
        cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        half = size / 2
        return np.array(
            [[cos, -sin, self.x - half * (cos - sin)], [sin, cos, self.y - half * (sin + cos)]],
            np.float64,
        )

    def to_image(self, points: Floats, size: int) -> Floats:
        """Converts (..., 2) points from the square's `size` x `size` pixels to the picture's pixels."""
        matrix = self.matrix(size)
        return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)

    def from_image(self, points: Floats, size: int) -> Floats:
        """Converts (..., 2) points from the picture's pixels to the square's `size` x `size` pixels."""
        matrix = self.matrix(size)
        return ((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).astype(np.float32)


def upward_angle(base: Floats, tip: Floats) -> float:
    """Returns the clockwise rotation, radians in (-pi, pi], from "up" to the direction from `base` to `tip`.

    >>> upward_angle(np.array([0, 0]), np.array([1, 0])) / np.pi  # pointing to the right
    0.5
    """
    x, y = float(tip[0] - base[0]), float(tip[1] - base[1])
    return float(np.arctan2(x, -y))


def areas(boxes: Floats) -> Floats:
    """Returns the areas of (N, 4) boxes x0, y0, x1, y1."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def intersections(a: Floats, b: Floats) -> Floats:
    """Returns the (N, M) areas of the intersections of (N, 4) and (M, 4) boxes."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.T[:, :, None], b.T[:, None, :]
    width = np.minimum(ax1, bx1) - np.maximum(ax0, bx0)
    height = np.minimum(ay1, by1) - np.maximum(ay0, by0)
    return np.asarray(np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height), np.float32)


def ious(a: Floats, b: Floats) -> Floats:
    """Returns the (N, M) intersections over unions of (N, 4) and (M, 4) boxes; 0 if both are empty.

    >>> ious(np.array([[0, 0, 2, 1]]), np.array([[1, 0, 3, 1]])).round(2)
    array([[0.33]], dtype=float32)
    """
    shared = intersections(a, b)
    union = areas(a)[:, None] + areas(b)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float32)


def apart(a: Reals, b: Reals) -> float:
    """Returns the distance of two (2,) points."""
    ax, ay = a.tolist()
    bx, by = b.tolist()
    return math.hypot(ax - bx, ay - by)


def area(box: Reals) -> float:
    """Returns the area of a (4,) box. For single boxes numbers are several times as fast as arrays."""
    x0, y0, x1, y1 = box.tolist()
    return float(max(0.0, x1 - x0) * max(0.0, y1 - y0))


def intersection(a: Reals, b: Reals) -> float:
    """Returns the area of the intersection of two (4,) boxes."""
    ax0, ay0, ax1, ay1 = a.tolist()
    bx0, by0, bx1, by1 = b.tolist()
    return float(max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0)))


def iou(a: Reals, b: Reals) -> float:
    """Returns the intersection over union of two (4,) boxes; 0 if both are empty.

    >>> round(iou(np.array([0, 0, 2, 1]), np.array([1, 0, 3, 1])), 2)
    0.33
    """
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    return shared / union if union > 0 else 0.0


def clip_boxes(boxes: Floats, width: int, height: int) -> Floats:
    """Clips (N, 4) boxes at the borders of a picture."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
