"""Live sources: network cameras and webcams. A lost camera is retried until it works again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from process.backoff import Backoff
from worker.publish.arrival import ArrivalTimes
from worker.publish.outages import Outages
from worker.publish.source import Encode, SourceError, SourceFrame
from worker.publish.thinning import Due

_OPENING = threading.BoundedSemaphore(8)
"""To learn what a camera sends, FFmpeg decodes some frames. If all cameras of a process did that at once, they would need
several times the memory that they need later."""

_LONGEST_TURN_S = 10.0
"""After which nobody waits for others that don't answer."""


@contextmanager
def _opening(in_turn: bool) -> Iterator[None]:
    """Waits for its turn, unless the camera is lost: it may not answer, and others shouldn't wait for it."""
    acquired = in_turn and _OPENING.acquire(timeout=_LONGEST_TURN_S)
    try:
        yield
    finally:
        if acquired:
            _OPENING.release()


class NotACameraError(SourceError):
    """What was taken for a camera while it couldn't be reached is something else."""


class Reading(Protocol):
    """An open camera."""

    codec: str

    @property
    def why_ended(self) -> str:
        """Says why there are no more frames."""
        ...

    def frames(self, times: ArrivalTimes, due: Due, encode: Encode, stop: threading.Event) -> Iterator[SourceFrame]:
        """Yields its frames until `stop` is set."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


class LiveCamera:
    """A camera; it continues regardless of what becomes of its frames."""

    live = True
    paced = False

    def __init__(
        self,
        outages: Outages,
        open_capture: Callable[[], Reading],
        encode: Encode,
        *,
        backoff: Backoff,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Takes where losses are noted and a function that opens the camera; the clock returns Unix seconds."""
        self.codec = ""
        self._outages = outages
        self._open = open_capture
        self._encode = encode
        self._backoff = backoff
        self._times = ArrivalTimes(clock)

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:
        """Yields frames until `stop` is set, across any number of losses. Raises NotACameraError."""
        while not stop.is_set():
            try:
                with _opening(in_turn=not self._outages.problem):
                    reading = self._open()
            except NotACameraError:
                raise
            except SourceError as error:
                self._outages.lost(str(error))
            else:
                with closing(reading):
                    self.codec = reading.codec
                    for frame in reading.frames(self._times, due, self._encode, stop):
                        self._backoff.reset()
                        self._outages.works()
                        yield frame
                if not stop.is_set():
                    self._outages.lost(reading.why_ended)
            stop.wait(self._backoff.next())
