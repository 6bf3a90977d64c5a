"""Draws a person in front of a camera: head, trunk, legs and arms, with the hands of worker/synthetic/hand.py.

Simple shapes with shading are enough for a pose model that was trained on photographs.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.synthetic.hand import UNIT, draw_hand, random_skin
from worker.synthetic.paste import paste

Image = NDArray[np.uint8]
Colour = Sequence[float] | NDArray[np.float32]
"""BGR."""
Point = tuple[float, float]
"""x to the right of the body's middle, y above the feet; in the person's height."""

_PALM_LENGTH = 0.062
"""From the wrist to the knuckles, in the person's height."""

_ARMS: tuple[tuple[Point, Point, Point], ...] = (
    ((0.105, 0.785), (0.150, 0.640), (0.200, 0.510)),  # hanging
    ((0.105, 0.785), (0.195, 0.700), (0.225, 0.850)),  # raised
    ((0.105, 0.785), (0.205, 0.675), (0.300, 0.720)),  # to the side
)
"""Shoulder, elbow and wrist of the arm on the right side of the picture; the other arm is mirrored."""

_TRUNK: tuple[Point, ...] = (
    (-0.110, 0.800), (-0.040, 0.840), (0.040, 0.840), (0.110, 0.800), (0.100, 0.620), (0.095, 0.470), (-0.095, 0.470),
    (-0.100, 0.620),
)  # fmt: skip
_SHIRTS = ((90, 60, 150), (150, 110, 60), (70, 120, 70), (60, 60, 70))  # BGR
_TROUSERS, _SHOES, _HAIR = (80, 60, 50), (30, 30, 30), (30, 40, 60)
_EYE, _BROW, _NOSE, _MOUTH = (40, 30, 30), (40, 50, 70), (90, 110, 160), (80, 80, 170)


@dataclass(frozen=True)
class DrawnHand:
    """Where a person's hand was drawn; pixels."""

    x: float
    y: float
    radius: float
    is_right: bool


class Person:
    """A person who faces the camera, with a random build, skin, shirt and posture."""

    def __init__(self, rng: random.Random) -> None:
        """Chooses them, and draws the hands."""
        self._arms = rng.choice(_ARMS)
        self._shirt = rng.choice(_SHIRTS)
        self._skin = random_skin(rng)
        self._hands = {right: draw_hand(rng, skin=self._skin, right=right) for right in (True, False)}

    def draw(self, image: Image, x: float, feet: float, height: float) -> list[DrawnHand]:
        """Draws the person into a BGR picture.

        Args:
            image: (H, W, 3) uint8; modified.
            x: the body's middle, pixels.
            feet: y of the feet, pixels.
            height: of the person, pixels.

        Returns:
            Where the two hands are.
        """
        body = _Body(image, x, feet, height)
        for side in (-1, 1):
            body.limb([(side * 0.055, 0.50), (side * 0.062, 0.28), (side * 0.065, 0.05)], 0.040, _TROUSERS)
            body.limb([(side * 0.065, 0.03), (side * 0.090, 0.012)], 0.020, _SHOES)
        body.polygon(_TRUNK, self._shirt)
        body.limb([(0.0, 0.82), (0.0, 0.87)], 0.030, self._skin)
        self._draw_head(body)
        hands = []
        for side in (-1, 1):
            shoulder, elbow, wrist = ((side * across, up) for across, up in self._arms)
            body.limb([shoulder, elbow], 0.032, self._shirt)
            body.limb([elbow, wrist], 0.026, self._shirt)
            hands.append(self._draw_hand(body, elbow, wrist, right=side < 0))
        return hands

    def _draw_head(self, body: _Body) -> None:
        body.ellipse((0.0, 0.925), 0.048, 0.065, self._skin)
        body.ellipse((0.0, 0.945), 0.052, 0.055, _HAIR, upper_half=True)
        for side in (-1, 1):
            body.line((side * 0.018, 0.930), (side * 0.018, 0.930), 0.012, _EYE)
            body.line((side * 0.010, 0.945), (side * 0.027, 0.946), 0.004, _BROW)
        body.line((0.0, 0.925), (0.004, 0.910), 0.004, _NOSE)
        body.line((-0.014, 0.892), (0.014, 0.892), 0.006, _MOUTH)

    def _draw_hand(self, body: _Body, elbow: Point, wrist: Point, *, right: bool) -> DrawnHand:
        """Draws a hand that continues the forearm."""
        sprite = self._hands[right]
        along = (wrist[0] - elbow[0], wrist[1] - elbow[1])
        length = math.hypot(*along)
        direction = (along[0] / length, along[1] / length)
        scale = _PALM_LENGTH * body.height / UNIT
        # The sprite's wrist is below its centre, which is what is placed.
        reach = (sprite.wrist[1] - (sprite.image.shape[0] - 1) / 2) * scale / body.height
        middle = body.at((wrist[0] + direction[0] * reach, wrist[1] + direction[1] * reach))
        paste(body.image, sprite, *middle, turn=math.degrees(math.atan2(*direction)), scale=scale)
        palm = body.at((wrist[0] + direction[0] * _PALM_LENGTH, wrist[1] + direction[1] * _PALM_LENGTH))
        return DrawnHand(*palm, radius=1.2 * _PALM_LENGTH * body.height, is_right=right)


class _Body:
    """A picture in which lengths are a person's heights."""

    def __init__(self, image: Image, x: float, feet: float, height: float) -> None:
        self.image = image
        self.height = height
        self._x = x
        self._feet = feet

    def at(self, point: Point) -> Point:
        """Returns a point in pixels."""
        return self._x + point[0] * self.height, self._feet - point[1] * self.height

    def limb(self, joints: Sequence[Point], radius: float, colour: Colour) -> None:
        """Draws thick shaded lines from joint to joint."""
        mask = self._blank()
        for start, end in itertools.pairwise(joints):
            cv2.line(mask, self._pixel(start), self._pixel(end), 255, self._pixels(2 * radius), cv2.LINE_AA)
        self._shade(mask, colour, radius)

    def polygon(self, corners: Sequence[Point], colour: Colour) -> None:
        """Draws a shaded polygon."""
        mask = self._blank()
        cv2.fillPoly(mask, [np.array([self._pixel(corner) for corner in corners], np.int32)], 255, cv2.LINE_AA)
        self._shade(mask, colour, 0.06)

    def ellipse(self, middle: Point, across: float, up: float, colour: Colour, *, upper_half: bool = False) -> None:
        """Draws a shaded ellipse."""
        mask = self._blank()
        axes = (self._pixels(across), self._pixels(up))
        start, end = (180, 360) if upper_half else (0, 360)
        cv2.ellipse(mask, self._pixel(middle), axes, 0, start, end, 255, cv2.FILLED, cv2.LINE_AA)
        self._shade(mask, colour, 0.05)

    def line(self, start: Point, end: Point, width: float, colour: Sequence[float]) -> None:
        """Draws a line without shading."""
        cv2.line(self.image, self._pixel(start), self._pixel(end), colour, self._pixels(width), cv2.LINE_AA)

    def _shade(self, mask: Image, colour: Colour, depth: float) -> None:
        """Fills a mask with a colour that is darker at its rim, so that it looks round."""
        x, y, width, height = cv2.boundingRect(mask)
        rows, columns = slice(y, y + height), slice(x, x + width)
        part = cv2.copyMakeBorder(mask[rows, columns], 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        inside = cv2.distanceTransform((part > 127).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        shade = 0.6 + 0.4 * np.sqrt(np.minimum(inside / max(1.0, depth * self.height), 1))
        cover = (mask[rows, columns].astype(np.float32) / 255)[:, :, None]
        below = self.image[rows, columns]
        shown = below * (1 - cover) + np.array(colour, np.float32) * shade[:, :, None] * cover
        self.image[rows, columns] = shown.clip(0, 255).astype(np.uint8)

    def _blank(self) -> Image:
        return np.zeros(self.image.shape[:2], np.uint8)

    def _pixel(self, point: Point) -> tuple[int, int]:
        x, y = self.at(point)
        return round(x), round(y)

    def _pixels(self, length: float) -> int:
        return max(1, round(length * self.height))
