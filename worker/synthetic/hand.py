"""Draws one hand: palm polygon, five capsule fingers and a forearm in skin colour, with shading and creases.

The drawing is simple enough to take milliseconds, and realistic enough for a detector that was trained on photographs.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]

UNIT = 96
"""Pixels of a sprite from the wrist to the knuckles; all lengths below are in this unit."""

_OVERSAMPLING = 2
_WIDTH, _ABOVE, _BELOW = 1.6, 2.3, 1.05
"""Extent of a sprite: to each side of the wrist, above it and below it."""

_PALM = (
    (-0.29, -0.10), (-0.36, 0.22), (-0.45, 0.62), (-0.47, 0.90), (-0.36, 1.02), (-0.12, 1.08),
    (0.12, 1.10), (0.34, 1.06), (0.47, 0.94), (0.47, 0.68), (0.50, 0.42), (0.40, 0.14), (0.29, -0.10),
)  # fmt: skip
"""Outline of a right hand's palm, inner side visible, fingers upwards, the wrist at the origin, y upwards."""

_PALM_CREASES = (
    ((-0.45, 0.72), (-0.20, 0.66), (0.08, 0.74), (0.24, 0.94)),  # heart
    ((-0.36, 0.50), (-0.10, 0.58), (0.20, 0.66), (0.44, 0.72)),  # head
    ((0.42, 0.70), (0.18, 0.58), (0.06, 0.34), (0.08, 0.04)),  # life
)

_SKINS = ((148, 172, 224), (128, 158, 214), (110, 140, 198), (92, 122, 180), (70, 98, 152))  # BGR
"""From light to dark; all clearly different from the backgrounds of worker/synthetic/camera.py."""


@dataclass(frozen=True)
class _Finger:
    base: tuple[float, float]
    angle: float
    """Degrees from straight upwards, clockwise."""
    lengths: tuple[float, float, float]
    """Of its phalanges, from the palm to the tip."""
    radius: float
    """At the base; the tip has four fifths of it."""


_FINGERS = (
    _Finger((-0.36, 0.90), -13, (0.32, 0.19, 0.17), 0.096),
    _Finger((-0.13, 0.99), -4, (0.42, 0.26, 0.20), 0.112),
    _Finger((0.12, 1.01), 2, (0.46, 0.29, 0.21), 0.116),
    _Finger((0.35, 0.96), 9, (0.41, 0.25, 0.20), 0.112),
)
_THUMB = _Finger((0.27, 0.30), 44, (0.42, 0.33, 0.25), 0.135)


@dataclass(frozen=True, eq=False)
class Sprite:
    """An upright hand."""

    image: NDArray[np.uint8]
    """(H, W, 4) BGR premultiplied by the opacity, and the opacity."""
    outline: Points
    """(N, 2) convex outline of the opaque pixels, x to the right and y down, relative to the sprite's centre."""
    wrist: tuple[float, float] = (_WIDTH * UNIT, _ABOVE * UNIT)
    """In the image's pixels, as x, y."""


def draw_hand(rng: random.Random, *, skin: NDArray[np.float32] | None = None, right: bool | None = None) -> Sprite:
    """Draws a hand with a random side, skin, spread and build; a given skin (BGR) or side isn't random."""
    some_skin = random_skin(rng)
    skin = some_skin if skin is None else skin
    spread, length = rng.uniform(0.9, 1.7), rng.uniform(0.92, 1.08)
    sheet = _Sheet(skin, light=rng.uniform(-0.12, 0.12))
    sheet.add(_forearm())
    thumb = _bones(_THUMB, rng.uniform(0.75, 1.15), length, bend=rng.uniform(-6, 2))
    sheet.add(_capsules(thumb, _THUMB.radius))
    sheet.add(_palm())
    for crease in _PALM_CREASES:
        sheet.crease(_curve(np.array(crease, np.float32)))
    # The ball of the thumb covers the palm's edge, so that the thumb doesn't look cut off there.
    sheet.add(_capsules(np.stack([thumb[0] - (0.03, 0.10), thumb[1] * 0.55 + thumb[0] * 0.45]), 0.16), rim=0.93)
    sheet.joint_creases(thumb, _THUMB.radius)
    for finger in _FINGERS:
        bones = _bones(finger, spread, length * rng.uniform(0.97, 1.03), bend=rng.uniform(-3, 3))
        sheet.add(_capsules(bones, finger.radius))
        sheet.joint_creases(bones, finger.radius)
    mirrored = rng.random() < 0.5
    return sheet.sprite(mirrored if right is None else not right)


def random_skin(rng: random.Random) -> NDArray[np.float32]:
    """Returns a colour of skin, BGR."""
    return np.array(rng.choice(_SKINS), np.float32) * rng.uniform(0.96, 1.04)


def _bones(finger: _Finger, spread: float, length: float, bend: float) -> Points:
    """Returns the four joints of a finger, each phalanx rotated by `bend` degrees relative to the previous one."""
    joints, angle = [np.array(finger.base)], finger.angle * spread
    for phalanx in finger.lengths:
        direction = np.array([math.sin(math.radians(angle)), math.cos(math.radians(angle))])
        joints.append(joints[-1] + direction * phalanx * length)
        angle += bend
    return np.array(joints, np.float32)


def _to_pixels(points: Points) -> Points:
    scale = UNIT * _OVERSAMPLING
    return np.stack([(points[:, 0] + _WIDTH) * scale, (_ABOVE - points[:, 1]) * scale], axis=1).astype(np.float32)


def _blank() -> NDArray[np.uint8]:
    scale = UNIT * _OVERSAMPLING
    return np.zeros((round((_ABOVE + _BELOW) * scale), round(2 * _WIDTH * scale)), np.uint8)


def _outline(points: Points) -> NDArray[np.uint8]:
    """Returns the mask of a polygon with rounded corners."""
    mask = _blank()
    cv2.fillPoly(mask, [_to_pixels(points).round().astype(np.int32)], 255, cv2.LINE_AA)
    spread = 0.04 * UNIT * _OVERSAMPLING
    window = _window(mask, margin=math.ceil(4 * spread))  # as wide as the blur reaches
    smooth = cv2.GaussianBlur(mask[window], (0, 0), spread)
    mask[window] = cv2.threshold(smooth, 127, 255, cv2.THRESH_BINARY)[1]
    return mask


def _capsules(joints: Points, radius: float) -> NDArray[np.uint8]:
    """Returns the mask of thick lines with round ends from joint to joint, thinner towards the tip."""
    mask = _blank()
    pixels = _to_pixels(joints)
    for index, (start, end) in enumerate(itertools.pairwise(pixels)):
        width = radius * (1 - 0.2 * index / max(1, len(pixels) - 2)) * UNIT * _OVERSAMPLING
        cv2.line(mask, _point(start), _point(end), 255, round(2 * width), cv2.LINE_AA)
    return mask


@functools.cache
def _palm() -> NDArray[np.uint8]:
    return _outline(np.array(_PALM, np.float32))


@functools.cache
def _forearm() -> NDArray[np.uint8]:
    corners = ((-0.28, 0.12), (-0.27, -0.10), (-0.33, -0.96), (0.33, -0.96), (0.27, -0.10), (0.28, 0.12))
    return _outline(np.array(corners, np.float32))


def _curve(controls: Points) -> Points:
    """Returns points of a cubic Bezier curve."""
    t = np.linspace(0, 1, 16, dtype=np.float32)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    return (weights @ controls).astype(np.float32)


def _point(pixel: Points) -> tuple[int, int]:
    return round(float(pixel[0])), round(float(pixel[1]))


def _window(mask: NDArray[np.uint8], margin: int = 8) -> tuple[slice, slice]:
    """Returns the rows and columns of a mask's content, with a margin in pixels: most parts cover little of the sheet."""
    x, y, width, height = cv2.boundingRect(mask)
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


class _Sheet:
    """The picture of one hand, to which parts are added from far to near."""

    def __init__(self, skin: NDArray[np.float32], light: float) -> None:
        alpha = _blank()
        self._skin = skin[:, None, None]
        self._alpha = alpha
        # One plane for each colour: numpy is several times slower if the innermost axis has three numbers.
        self._colour = np.zeros((3, *alpha.shape), np.float32)
        # The light comes from one side: the brightness changes linearly across the hand.
        self._light = 1 + light * np.linspace(-1, 1, alpha.shape[1], dtype=np.float32)[None, :]

    def add(self, mask: NDArray[np.uint8], rim: float = 0.62) -> None:
        """Adds a part over the others; its rim is darker by this factor, so that it looks round and separate."""
        rows, columns = _window(mask, margin=0)
        part = mask[rows, columns]
        inside = cv2.copyMakeBorder(cv2.threshold(part, 127, 1, cv2.THRESH_BINARY)[1], 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
        roundness = np.sin(np.minimum(depth / (0.12 * UNIT * _OVERSAMPLING), 1) * (math.pi / 2))
        shade = (rim + (1 - rim) * roundness) * self._light[:, columns]
        cover = part.astype(np.float32) / 255
        below = self._colour[:, rows, columns]
        self._colour[:, rows, columns] = below * (1 - cover) + self._skin * shade * cover
        self._alpha[rows, columns] = np.maximum(self._alpha[rows, columns], part)

    def crease(self, points: Points, darkness: float = 0.74) -> None:
        """Darkens a line."""
        lines = _blank()
        pixels = _to_pixels(points).round().astype(np.int32)
        cv2.polylines(lines, [pixels], False, 255, round(0.022 * UNIT * _OVERSAMPLING), cv2.LINE_AA)
        rows, columns = _window(lines)
        soft = cv2.GaussianBlur(lines[rows, columns], (0, 0), 0.010 * UNIT * _OVERSAMPLING).astype(np.float32) / 255
        self._colour[:, rows, columns] *= 1 - (1 - darkness) * soft

    def joint_creases(self, joints: Points, radius: float) -> None:
        """Darkens a line across a finger at each of its inner joints."""
        for before, joint in itertools.pairwise(joints[:-1]):
            along = (joint - before) / np.linalg.norm(joint - before)
            across = np.array([-along[1], along[0]], np.float32) * radius * 0.75
            self.crease(np.stack([joint - across, joint + across]), darkness=0.78)

    def sprite(self, mirrored: bool) -> Sprite:
        """Returns the sheet at its final size; a mirrored right hand is a left one."""
        height, width = (side // _OVERSAMPLING for side in self._alpha.shape)
        x, _, across, _ = cv2.boundingRect(self._alpha)
        drawn = slice(x // _OVERSAMPLING, min(width, (x + across) // _OVERSAMPLING + 1))
        fine = np.s_[..., drawn.start * _OVERSAMPLING : drawn.stop * _OVERSAMPLING]
        opacity, colours = self._alpha[fine], self._colour[fine]
        cover, size = opacity.astype(np.float32) / 255, (drawn.stop - drawn.start, height)
        planes = [cv2.resize(colour * cover, size, interpolation=cv2.INTER_AREA) for colour in colours]
        alpha = cv2.resize(opacity, size, interpolation=cv2.INTER_AREA)
        image = np.zeros((height, width, 4), np.uint8)
        image[:, drawn] = cv2.merge([*(plane.clip(0, 255).astype(np.uint8) for plane in planes), alpha])
        if mirrored:
            image = cv2.flip(image, 1).astype(np.uint8, copy=False)  # np.ascontiguousarray takes 40 times as long
        hull = cv2.convexHull(_ends(image[:, :, 3] > 0))[:, 0, :] - (np.array([width, height], np.float32) - 1) / 2
        return Sprite(image, hull.astype(np.float32))


def _ends(filled: NDArray[np.bool_]) -> Points:
    """Returns the first and the last filled pixel of each row as x, y: all that their convex hull needs."""
    rows = np.flatnonzero(filled.any(axis=1))
    first = filled[rows].argmax(axis=1)
    last = filled.shape[1] - 1 - filled[rows, ::-1].argmax(axis=1)
    return np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1).astype(np.float32)
