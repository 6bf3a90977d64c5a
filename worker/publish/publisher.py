"""The two threads of a publisher, and how they end.

    capture ──frames──▶ buffer ──frames──▶ sender
    the source's own time     a few frames        Redis

A capture is never held up by Redis where the source is live: the buffer drops its oldest frames, and counts them. The
end of the source, the count or the duration lets the sender finish what is in the buffer; a stop discards it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from worker.publish.buffer import FrameBuffer
from worker.publish.source import Captured, Source, SourceError

logger = logging.getLogger(__name__)

BUFFER_FRAMES = 32
"""About a second of a live camera."""

_GRACE_S = 0.4
"""What a thread gets to end by itself after a stop."""

_LAST_FRAMES_S = 5.0
"""How long a live source's last frames are tried after its duration, where Redis is away. A film's wait for ever."""


class Queue(Protocol):
    """Takes the frames."""

    def publish(self, frame: Captured, give_up: threading.Event) -> bool:
        """Publishes a frame, however long that takes; False if told to give up before."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a publisher is."""

    published: int
    dropped: int
    seconds: float
    """Since its start."""


class Publisher:
    """Publishes one source as one stream."""

    def __init__(
        self,
        source: Source,
        queue: Queue,
        *,
        count: int | None = None,
        duration: float = math.inf,
        buffer_frames: int = BUFFER_FRAMES,
    ) -> None:
        """Ends after `count` published frames or `duration` seconds of capture times, where the source doesn't."""
        self.done = threading.Event()
        """Set when there is nothing left to do, and by whoever wants the publisher to stop."""
        self.error: BaseException | None = None
        """What ended it, if that was neither the end of the source nor a stop."""
        self._source = source
        self._queue = queue
        self._count = count
        self._duration = duration
        self._buffer = FrameBuffer(buffer_frames, drop_oldest=source.live)
        self._end_capture = threading.Event()
        self._give_up = threading.Event()
        self._published = 0
        self._given_up = 0
        self._started = time.monotonic()
        self._capturing = threading.Thread(target=self._run_capture, name="capture", daemon=True)
        self._sending = threading.Thread(target=self._run_sender, name="sender", daemon=True)

    def start(self) -> None:
        """Starts the threads."""
        self._started = time.monotonic()
        self._sending.start()
        self._capturing.start()

    def progress(self) -> Progress:
        """Tells how far it is, at any time."""
        dropped = self._buffer.dropped + self._given_up
        return Progress(self._published, dropped, time.monotonic() - self._started)

    def wait(self, timeout: float) -> bool:
        """Waits until there is nothing left to do; False if there still is after so many seconds."""
        if self._source.live and self._duration < math.inf:
            left = self._started + self._duration - time.monotonic()
            if left <= 0 and not self._source.paced:  # a silent camera gives no frame that could end it
                self._end_capture.set()
                self._buffer.close()
            if left + _LAST_FRAMES_S <= 0:
                self.done.set()
            timeout = min(timeout, left if left > 0 else left + _LAST_FRAMES_S)
        return self.done.wait(max(0.0, min(timeout, threading.TIMEOUT_MAX)))

    def stop(self) -> bool:
        """Stops both threads; False where one is held by a call that can't be interrupted."""
        self._end_capture.set()
        self._give_up.set()
        self._buffer.close(discard=True)
        for thread in (self._capturing, self._sending):
            thread.join(_GRACE_S)
        return not (self._capturing.is_alive() or self._sending.is_alive())

    def _capture(self) -> None:
        first_ts, begun = None, 0.0
        for frame in self._source.frames(self._end_capture):
            if first_ts is None:
                first_ts, begun = frame.ts, time.monotonic()
            if frame.ts - first_ts >= self._duration:
                return
            due = begun + frame.ts - first_ts
            if self._source.paced and self._end_capture.wait(max(0.0, due - time.monotonic())):
                return
            if not self._buffer.put(frame):
                return

    def _send(self) -> None:
        while self._count is None or self._published < self._count:
            frame = self._buffer.get()
            if frame is None:
                return
            if self._queue.publish(frame, self._give_up):
                self._published += 1
            else:
                self._given_up += 1

    def _run_capture(self) -> None:
        with self._keeping_errors():
            self._capture()
        self._buffer.close()

    def _run_sender(self) -> None:
        with self._keeping_errors():
            self._send()
        self._end_capture.set()
        self._buffer.close()
        self.done.set()

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except SourceError as error:
            self.error = error
        except Exception as error:
            logger.exception("the publisher failed")
            self.error = error
