"""Draws hands into a picture, for people."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.hands.detection import Hands

FINGERS = ((0, 1, 2, 3, 4), (0, 5, 6, 7, 8), (0, 9, 10, 11, 12), (0, 13, 14, 15, 16), (0, 17, 18, 19, 20))
"""Joints of thumb to little finger, each from the wrist to the tip."""

_RIGHT, _LEFT = (60, 180, 60), (220, 120, 30)  # BGR: green, blue
_JOINT, _TEXT, _SHADE = (60, 60, 240), (255, 255, 255), (30, 30, 30)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

SHIFT = 3
"""OpenCV takes coordinates in eighths of a pixel."""

Colour = tuple[int, int, int]
"""Blue, green, red."""


def annotate(image: NDArray[np.uint8], hands: Hands, *, skeletons: bool = True) -> NDArray[np.uint8]:
    """Draws each hand's box, side, score and skeleton, and the number of hands in the top left corner.

    Args:
        image: (H, W, 3) uint8 BGR; unchanged.
        hands: a detector's hands in it.
        skeletons: whether to draw skeletons.

    Returns:
        The annotated copy.
    """
    canvas = image.copy()
    # Lines and letters grow with the picture, so that they are legible when it is scaled to a screen.
    unit = max(image.shape[:2]) / 640
    thickness = max(1, round(1.5 * unit))
    for box, is_right, score, joints in zip(hands.boxes, hands.is_right, hands.scores, hands.keypoints, strict=True):
        colour = _RIGHT if is_right else _LEFT
        x0, y0, x1, y1 = (round(float(value)) for value in box)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, thickness)
        if skeletons and np.isfinite(joints).all():
            draw_skeleton(canvas, joints, colour, unit)
        _label(canvas, f"{'R' if is_right else 'L'} {score:.2f}", (x0, y0), colour, unit)
    count = len(hands)
    _label(canvas, f"{count} hand" if count == 1 else f"{count} hands", (0, 0), _SHADE, 1.3 * unit)
    return canvas


def draw_skeleton(canvas: NDArray[np.uint8], joints: NDArray[np.floating], colour: Colour, unit: float) -> None:
    """Draws a hand's joints and the bones between them into the picture.

    Args:
        canvas: (H, W, 3) uint8 BGR.
        joints: (21, 2) x, y in pixels, (0, 0) at the outer corner of the first one; they may be outside the picture.
        colour: of the bones.
        unit: width of the lines, pixels.
    """
    points = fixed_point(joints - 0.5)  # OpenCV has (0, 0) at the centre of the first pixel
    fingers = [points[list(finger)] for finger in FINGERS]
    cv2.polylines(canvas, fingers, False, colour, max(1, round(1.5 * unit)), cv2.LINE_AA, SHIFT)
    radius = max(1, round(2 * unit)) << SHIFT
    for x, y in points.tolist():
        cv2.circle(canvas, (x, y), radius, _JOINT, cv2.FILLED, cv2.LINE_AA, SHIFT)


def fixed_point(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Converts pixels to OpenCV's fixed-point numbers, clipped to their range."""
    return np.clip(np.round(points * (1 << SHIFT)), -(2**26), 2**26).astype(np.int32)


def _label(canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: Colour, unit: float) -> None:
    """Writes on a filled bar whose lower left corner is at `corner`, or as near as possible inside the picture."""
    scale, thickness = max(0.35, 0.5 * unit), max(1, round(unit))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    x = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = max(corner[1], height + baseline)
    cv2.rectangle(canvas, (x, bottom - height - baseline), (x + width, bottom), colour, cv2.FILLED)
    cv2.putText(canvas, text, (x, bottom - baseline // 2 - 1), _FONT, scale, _TEXT, thickness, cv2.LINE_AA)
