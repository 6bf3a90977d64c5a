"""A fake detector, for tests of everything around it."""

import os
import time

import numpy as np
import numpy.typing as npt

from worker.hands.detection import Hands

ONE_HAND = Hands(
    boxes=np.array([[1.0, 2.0, 11.5, 12.25]], np.float32),
    is_right=np.array([True]),
    scores=np.array([0.875], np.float32),
    keypoints=np.full((1, 21, 2), np.nan, np.float32),
)


class FakeDetector:
    """Finds one hand in any picture, after a given time.

    A picture whose first pixel is pure blue kills the process, as a crash in a native library would; one whose first
    pixel is pure red raises an error.
    """

    name = "fake"
    engine = "fake"

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def detect(self, image: npt.NDArray[np.uint8]) -> Hands:
        """Finds one hand."""
        blue, _, red = (int(value) for value in image[0, 0])
        if blue > 200 > 100 > red:
            os.kill(os.getpid(), 9)
        if red > 200 > 100 > blue:
            raise RuntimeError("a red picture")
        time.sleep(self._seconds)
        return ONE_HAND
