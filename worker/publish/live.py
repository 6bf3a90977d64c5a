"""Live sources: network cameras and webcams. A lost camera is retried until it works again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from process.backoff import Backoff
from worker.publish.capture import Capture, open_url, open_webcam
from worker.publish.source import Encode, SourceError, SourceFrame
from worker.publish.thinning import Due

logger = logging.getLogger(__name__)


class LiveCamera:
    """A camera; the capture time of a frame is the time of its arrival."""

    live = True
    paced = False

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Capture],
        encode: Encode,
        *,
        backoff: Backoff,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Takes a name for logs and a function that opens the camera; the clock returns Unix seconds."""
        self._name = name
        self._open = open_capture
        self._encode = encode
        self._backoff = backoff
        self._clock = clock
        self._lost = False

    @classmethod
    def from_url(cls, name: str, url: Callable[[], str], encode: Encode) -> LiveCamera:
        """Returns a network camera, which may start later than the publisher; its URL is asked for at each connection."""
        return cls(name, lambda: open_url(url(), name), encode, backoff=Backoff())

    @classmethod
    def from_webcam(cls, name: str, device: str, encode: Encode) -> LiveCamera:
        """Opens a camera of this machine, by its index or path. Raises SourceError if there is none."""
        first: list[Capture] = [open_webcam(device, name)]
        return cls(
            name,
            lambda: first.pop() if first else open_webcam(device, name),
            encode,
            backoff=Backoff(first_s=0.5),
        )

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        """Yields frames until `stop` is set, across any number of losses."""
        while not stop.is_set():
            try:
                capture = self._open()
            except SourceError as error:
                self._report_loss(str(error))
            else:
                try:
                    yield from self._frames_of(capture, stop)
                finally:
                    gone = capture.decoded or not capture.codec
                    reason = "it sends no more frames" if gone else capture.undecodable
                    capture.close()
                self._report_loss(reason)
            stop.wait(self._backoff.next())

    def _frames_of(self, capture: Capture, stop: threading.Event) -> Iterator[SourceFrame]:
        while not stop.is_set() and capture.grab():
            ts = self._clock()
            frame = capture.retrieve()
            if frame is None:
                continue
            if self._lost:
                self._lost = False
                logger.info("the camera works again", extra={"camera": self._name})
            self._backoff.reset()
            yield SourceFrame(ts, partial(capture.encoded, frame, self._encode))
        if stop.is_set():
            self._lost = True  # a stop isn't a loss, so nothing is logged

    def _report_loss(self, reason: str) -> None:
        if not self._lost:
            logger.warning("the camera is lost; retrying", extra={"camera": self._name, "reason": reason})
        self._lost = True
