"""Boxes, letterboxes and rotated crops: where a model's coordinates lie in the picture. Pure numpy.

Coordinates are continuous: pixel (i, j) covers the square from (i, j) to (i + 1, j + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """A part of the picture that the palm model sees at once.

    Its longer side fills the model's square input; the shorter one is centred between black bars.
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
        """The longer side: what the model's whole input spans, in the picture's pixels."""
        return max(self.width, self.height)

    def letterbox(self, size: int) -> tuple[int, int, int, int]:
        """Give where the view's content lies in a square input of `size` pixels, as x, y, width, height.

        Content is placed on whole pixels and is at least one pixel wide and high.
        """
        width = max(1, round(self.width * size / self.side))
        height = max(1, round(self.height * size / self.side))
        return (size - width) // 2, (size - height) // 2, width, height

    def to_image(self, points: Floats, size: int) -> Floats:
        """Turn points of a letterboxed input into the picture's pixels.

        Args:
            points: (..., 2) x, y in input pixels.
            size: Side of the square input.

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
    """A square part of the picture, turned so that a hand in it points up: what the landmark model sees."""

    x: float
    """Centre in the picture's pixels."""
    y: float
    """Centre in the picture's pixels."""
    side: float
    """Side in the picture's pixels."""
    angle: float
    """Clockwise turn (as seen in the picture) of the square's upward direction, radians; 0 is upright."""

    def matrix(self, size: int) -> NDArray[np.float64]:
        """Give the (2, 3) affine matrix from the square's `size` x `size` pixels to the picture's."""
        scale = self.side / size
        cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        half = size / 2
        return np.array(
            [[cos, -sin, self.x - half * (cos - sin)], [sin, cos, self.y - half * (sin + cos)]],
            np.float64,
        )

    def to_image(self, points: Floats, size: int) -> Floats:
        """Turn (..., 2) points in the square's `size` x `size` pixels into the picture's pixels."""
        matrix = self.matrix(size)
        return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)

    def from_image(self, points: Floats, size: int) -> Floats:
        """Turn (..., 2) points of the picture into the square's `size` x `size` pixels."""
        matrix = self.matrix(size)
        return ((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).astype(np.float32)


def upward_angle(base: Floats, tip: Floats) -> float:
    """Give the clockwise turn, radians in (-pi, pi], that takes "up" to the direction from `base` to `tip`.

    >>> upward_angle(np.array([0, 0]), np.array([1, 0])) / np.pi  # pointing to the right
    0.5
    """
    x, y = float(tip[0] - base[0]), float(tip[1] - base[1])
    return float(np.arctan2(x, -y))


def areas(boxes: Floats) -> Floats:
    """Give the areas of (N, 4) boxes x0, y0, x1, y1."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def intersections(a: Floats, b: Floats) -> Floats:
    """Give the (N, M) areas that (N, 4) and (M, 4) boxes share."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float32)


def ious(a: Floats, b: Floats) -> Floats:
    """Give the (N, M) shares of intersection in union of (N, 4) and (M, 4) boxes; 0 where both are empty.

    >>> ious(np.array([[0, 0, 2, 1]]), np.array([[1, 0, 3, 1]])).round(2)
    array([[0.33]], dtype=float32)
    """
    shared = intersections(a, b)
    union = areas(a)[:, None] + areas(b)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float32)


def clip_boxes(boxes: Floats, width: int, height: int) -> Floats:
    """Cut (N, 4) boxes off at the borders of a picture."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
