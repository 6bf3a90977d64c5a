"""Fake detectors, for tests of everything around them."""

import os
import queue as queues
import threading
import time
from concurrent.futures import Future

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
        self.look(image)
        time.sleep(self._seconds)
        return ONE_HAND

    def look(self, image: npt.NDArray[np.uint8]) -> None:
        """Does what a picture of that colour does."""
        blue, _, red = (int(value) for value in image[0, 0])
        if blue > 200 > 100 > red:
            os.kill(os.getpid(), 9)
        if red > 200 > 100 > blue:
            raise RuntimeError("a red picture")


class FakeGpu(FakeDetector):
    """The same for many pictures at a time: a batch is all that wait, and takes the time of one picture."""

    at_once = 16

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self._waiting: queues.SimpleQueue[tuple[npt.NDArray[np.uint8], Future[Hands]]] = queues.SimpleQueue()
        threading.Thread(target=self._work, name="fake-gpu", daemon=True).start()

    def detect(self, image: npt.NDArray[np.uint8]) -> Hands:
        """Finds one hand."""
        return self.submit(image).result()

    def submit(self, image: npt.NDArray[np.uint8]) -> "Future[Hands]":
        """Finds one hand later."""
        found: Future[Hands] = Future()
        self._waiting.put((image, found))
        return found

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            time.sleep(self._seconds)
            for image, found in batch:
                try:
                    self.look(image)
                    found.set_result(ONE_HAND)
                except RuntimeError as error:
                    found.set_exception(error)


def fake_detector(what: str) -> FakeDetector:
    """Returns the one that a text names: the seconds of a picture, or ``gpu:`` and those of a batch."""
    _, gpu, seconds = what.rpartition("gpu:")
    return FakeGpu(float(seconds)) if gpu else FakeDetector(float(seconds))
