"""How a picture is turned and mirrored before it is shown, as containers and cameras say it. Pure but for the turning."""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np

from worker.picture import Picture


class Orientation(NamedTuple):
    """Steps from the picture as it is stored to the picture as it is shown, in this order."""

    mirrored: bool = False
    """Left and right are exchanged."""
    quarter_turns: int = 0
    """Clockwise, 0 to 3."""


UPRIGHT = Orientation()

# The matrix maps a pixel of the stored picture, x to the right and y down, to its place in the shown one: the first row is
# where a step to the right leads, the second one where a step down leads (ISO/IEC 14496-12, 6.2.2).
_ORIENTATIONS = {
    ((1, 0), (0, 1)): UPRIGHT,
    ((0, 1), (-1, 0)): Orientation(False, 1),
    ((-1, 0), (0, -1)): Orientation(False, 2),
    ((0, -1), (1, 0)): Orientation(False, 3),
    ((-1, 0), (0, 1)): Orientation(True, 0),
    ((0, 1), (1, 0)): Orientation(True, 3),
    ((1, 0), (0, -1)): Orientation(True, 2),
    ((0, -1), (-1, 0)): Orientation(True, 1),
}

_TURNS = {1: cv2.ROTATE_90_CLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_COUNTERCLOCKWISE}


def orientation(matrix: bytes) -> Orientation:
    """Returns what a display matrix says: nine 32-bit integers, 16.16 fixed point, as FFmpeg has it.

    An angle that isn't a quarter turn is ignored, as decoders do.
    """
    if len(matrix) < 36:
        return UPRIGHT
    values = struct.unpack("=9i", matrix[:36])
    rows = (_signs(values[0], values[1]), _signs(values[3], values[4]))
    return _ORIENTATIONS.get(rows, UPRIGHT)


def _signs(x: int, y: int) -> tuple[int, int]:
    """Returns the direction of a vector along one of the axes; (0, 0) for one between them."""
    if abs(x) > 16 * abs(y):
        return (1 if x > 0 else -1), 0
    if abs(y) > 16 * abs(x):
        return 0, (1 if y > 0 else -1)
    return 0, 0


def turned(picture: Picture, how: Orientation) -> Picture:
    """Returns a picture as it is shown, HxWx3; the same array if it is upright."""
    shown = picture
    if how.mirrored:
        shown = np.ascontiguousarray(shown[:, ::-1])
    if how.quarter_turns:
        shown = cv2.rotate(shown, _TURNS[how.quarter_turns])  # type: ignore[assignment]
    return shown
