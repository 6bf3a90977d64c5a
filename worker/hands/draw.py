"""Draws hands into a picture, for people."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.hands.detection import Hands

BONES = tuple(
    (joint - 1 if joint % 4 != 1 else 0, joint) for joint in range(1, 21)
)  # each finger is a chain of four joints that starts at the wrist
"""Pairs of joints that the skeleton's lines connect."""

_RIGHT, _LEFT = (60, 180, 60), (220, 120, 30)  # BGR: green, blue
_JOINT, _TEXT, _SHADE = (60, 60, 240), (255, 255, 255), (30, 30, 30)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


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
            points = [(round(float(x)), round(float(y))) for x, y in joints]
            for start, end in BONES:
                cv2.line(canvas, points[start], points[end], colour, thickness, cv2.LINE_AA)
            for point in points:
                cv2.circle(canvas, point, max(1, round(2 * unit)), _JOINT, cv2.FILLED, cv2.LINE_AA)
        _label(canvas, f"{'R' if is_right else 'L'} {score:.2f}", (x0, y0), colour, unit)
    count = len(hands)
    _label(canvas, f"{count} hand" if count == 1 else f"{count} hands", (0, 0), _SHADE, 1.3 * unit)
    return canvas


def _label(
    canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple[int, int, int], unit: float
) -> None:
    """Writes on a filled bar whose lower left corner is at `corner`, or as near as possible inside the picture."""
    scale, thickness = max(0.35, 0.5 * unit), max(1, round(unit))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    x = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = max(corner[1], height + baseline)
    cv2.rectangle(canvas, (x, bottom - height - baseline), (x + width, bottom), colour, cv2.FILLED)
    cv2.putText(canvas, text, (x, bottom - baseline // 2 - 1), _FONT, scale, _TEXT, thickness, cv2.LINE_AA)
