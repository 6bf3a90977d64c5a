"""Films as sources: video files, pipes, and films on a server, with times of their own."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator

from worker.publish.capture import UNKNOWN_FPS, Capture
from worker.publish.source import Encode, SourceError, SourceFrame
from worker.publish.thinning import Due
from worker.publish.timeline import MAX_GAP_S, OnJump, Timeline

logger = logging.getLogger(__name__)


class Film:
    """A film, published at its own pace."""

    live = False

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Capture],
        encode: Encode,
        *,
        start: float,
        loop: bool,
        paced: bool,
        on_jump: OnJump,
    ) -> None:
        """Opens the film, so that an error comes before the first frame is published.

        Takes a name for logs, a function that opens the film from its beginning, and who is told of jumps in it.

        Raises:
            SourceError: it can't be opened.
        """
        self.paced = paced
        self._name = name
        self._encode = encode
        self._start = start
        self._loop = loop
        self._on_jump = on_jump
        self._open = open_capture
        self._capture: Capture | None = open_capture()
        self.codec = self._capture.codec

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:
        """Yields the frames, over and over if it loops."""
        capture = self._capture or self._open()
        self._capture = None
        max_gap = MAX_GAP_S if capture.clock_may_change else math.inf
        timeline = Timeline(self._start, 1 / (capture.fps or UNKNOWN_FPS), max_gap, self._on_jump)
        try:
            while True:
                yield from capture.frames(timeline, due, self._encode, stop)
                if stop.is_set():
                    return
                if capture.error or capture.fruitless or not capture.arrived:
                    raise SourceError(f"{self._name}: {capture.why_ended}")
                if not self._loop:
                    return
                timeline.loop()
                capture.close()
                capture = self._open()
        finally:
            capture.close()
