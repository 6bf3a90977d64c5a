"""Simulated cameras as sources."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from worker.picture import Picture
from worker.publish.source import Encode, SourceFrame
from worker.publish.thinning import Due
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec


class SimulatedCamera:
    """A simulated camera: like a live one it doesn't wait for Redis, but its capture times follow its specification."""

    def __init__(
        self, spec: SyntheticSpec, encode: Encode, *, paced: bool, clock: Callable[[], float] = time.time
    ) -> None:
        """Draws the hands; the clock returns the capture time of the first frame, Unix seconds."""
        self.codec = ""
        self.live = paced
        self.paced = paced
        self._spec = spec
        self._encode = encode
        self._clock = clock
        self._start = 0.0
        self._camera = SyntheticCamera(spec)

    def true_hands(self, ts: float) -> int:
        """Returns the true number of hands in the frame with this capture time."""
        return self._camera.true_hands(self._index(ts))

    def picture(self, ts: float) -> Picture:
        """Returns the frame with this capture time."""
        return self._camera.frame(self._index(ts))

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        """Yields frames without end; the first one's capture time is the time of the call."""
        self._start = self._clock()
        index = 0
        while not stop.is_set():
            yield SourceFrame(self._start + self._spec.position(index), partial(self._draw, index))
            index += 1

    def _draw(self, index: int) -> bytes:
        return self._encode(self._camera.frame(index))

    def _index(self, ts: float) -> int:
        return round((ts - self._start) * self._spec.fps)  # jitter stays below half a period
