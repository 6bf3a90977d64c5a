"""How pictures are turned."""

import struct

import cv2
import numpy as np
import pytest

from worker.publish.orientation import UPRIGHT, Orientation, orientation, turned

ONE = 1 << 16
# The corners of the picture as it is stored:
STORED = [["a", "b"], ["c", "d"]]


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    """Returns a display matrix in memory."""
    return struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (matrix(ONE, 0, 0, ONE), ["ab", "cd"]),
        (matrix(0, ONE, -ONE, 0), ["ca", "db"]),  # a quarter turn clockwise
        (matrix(-ONE, 0, 0, -ONE), ["dc", "ba"]),
        (matrix(0, -ONE, ONE, 0), ["bd", "ac"]),
        (matrix(-ONE, 0, 0, ONE), ["ba", "dc"]),  # left and right exchanged
        (matrix(ONE, 0, 0, -ONE), ["cd", "ab"]),  # top and bottom exchanged
        (matrix(0, ONE, ONE, 0), ["ac", "bd"]),
        (matrix(0, -ONE, -ONE, 0), ["db", "ca"]),
        (matrix(46341, 46341, -46341, 46341), ["ab", "cd"]),  # 45 degrees
        (matrix(0, 0, 0, 0), ["ab", "cd"]),
        (b"", ["ab", "cd"]),
    ],
)
def test_matrices(content: bytes, shown: list[str]) -> None:
    """Where a step to the right and a step down lead determines where each corner is shown."""
    stored = np.array([[[ord(corner)] * 3 for corner in row] for row in STORED], np.uint8)
    picture = turned(stored, orientation(content))
    assert ["".join(chr(corner[0]) for corner in row) for row in picture] == shown


def test_an_upright_picture_is_not_copied() -> None:
    """The array is returned as it is."""
    picture = np.zeros((2, 3, 3), np.uint8)
    assert turned(picture, UPRIGHT) is picture


def test_turned_pictures_can_be_encoded() -> None:
    """Whatever the orientation, the array is one that OpenCV accepts, of the right size."""
    picture = np.zeros((20, 30, 3), np.uint8)
    for mirrored in (False, True):
        for quarters in range(4):
            shown = turned(picture, Orientation(mirrored, quarters))
            assert shown.shape == ((30, 20, 3) if quarters % 2 else (20, 30, 3))
            assert cv2.imencode(".jpg", shown)[0]
