"""The two threads of a publisher, and how they end.

    capture ──frames──▶ buffer ──frames──▶ sender
    the source's own pace    a few frames         Redis

Redis never delays the capture of a live source: the buffer drops its oldest frames and counts them. At the end of the
source, the count or the duration, the sender finishes the frames in the buffer; a stop discards them.
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

from worker.picture_header import PictureError
from worker.publish.buffer import FrameBuffer
from worker.publish.source import Captured, Source, SourceError
from worker.publish.source_rate import SourceRate
from worker.publish.thinning import Due, Unlimited

logger = logging.getLogger(__name__)

BUFFER_FRAMES = 32
"""About a second of a live camera."""

_LONG_GAP_S = 30.0
"""A wait between two frames of a film that is worth a line in the log."""

_GRACE_S = 0.4
"""Seconds that a stop waits for each thread."""

_LAST_FRAMES_S = 5.0
"""Seconds that a live source's last frames are retried after its duration while Redis is unreachable; a film's forever."""


class Queue(Protocol):
    """Where frames are published."""

    def publish(self, frame: Captured, cancelled: threading.Event) -> bool:
        """Publishes a frame, however long that takes; returns False if it is cancelled before."""
        ...


@dataclass(frozen=True)
class Progress:
    """A publisher's progress."""

    arrived: int
    """Frames that the source had."""
    published: int
    thinned: int
    """Frames that weren't published because they would have been denied."""
    dropped: int
    """Frames that should have been published, but were too late for that or couldn't be encoded."""
    seconds: float
    """Since the start."""


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
        due: Due | None = None,
    ) -> None:
        """Publishes the frames that are due; without `due` all of them.

        Stops after `count` published frames or `duration` seconds of capture times, unless the source ends before.
        """
        self.done = threading.Event()
        """Set when there is nothing left to do; setting it requests a stop."""
        self.error: BaseException | None = None
        """The error that ended it, None after the end of the source or a stop."""
        self._source = source
        self._queue = queue
        self._count = count
        self._duration = duration
        self._due: Due = Unlimited() if due is None else due
        self._rate = SourceRate()
        self._buffer = FrameBuffer(buffer_frames, drop_oldest=source.live)
        self._end_capture = threading.Event()
        self._cancelled = threading.Event()
        self._arrived = 0
        self._thinned = 0
        self._unencodable = 0
        self._published = 0
        self._abandoned = 0
        self._started = time.monotonic()
        self._capturing = threading.Thread(target=self._run_capture, name="capture", daemon=True)
        self._sending = threading.Thread(target=self._run_sender, name="sender", daemon=True)

    def start(self) -> None:
        """Starts the threads."""
        self._started = time.monotonic()
        self._sending.start()
        self._capturing.start()

    def progress(self) -> Progress:
        """Returns the progress, at any time."""
        return Progress(
            arrived=self._arrived,
            published=self._published,
            thinned=self._thinned,
            dropped=self._buffer.dropped + self._abandoned + self._unencodable,
            seconds=time.monotonic() - self._started,
        )

    def source_fps(self) -> float:
        """Returns how many frames per second the source delivers; 0 while that isn't known, and while nothing comes."""
        return self._rate.fps(time.monotonic())

    def wait(self, timeout: float) -> bool:
        """Waits until there is nothing left to do, for up to `timeout` seconds; returns False after that."""
        if self._source.live and self._duration < math.inf:
            left = self._started + self._duration - time.monotonic()
            if left <= 0 and not self._source.paced:  # a silent camera has no frame that would end it
                self._end_capture.set()
                self._buffer.close()
            if left + _LAST_FRAMES_S <= 0:
                self.done.set()
            timeout = min(timeout, left if left > 0 else left + _LAST_FRAMES_S)
        return self.done.wait(max(0.0, min(timeout, threading.TIMEOUT_MAX)))

    def stop(self) -> bool:
        """Stops both threads; returns False if one of them is in a call that can't be interrupted."""
        self._end_capture.set()
        self._cancelled.set()
        self._buffer.close(discard=True)
        for thread in (self._capturing, self._sending):
            thread.join(_GRACE_S)
        return not (self._capturing.is_alive() or self._sending.is_alive())

    def _capture(self) -> None:
        first_ts, began = None, 0.0
        for frame in self._source.frames(self._end_capture, self._due):
            if first_ts is None:
                first_ts, began = frame.ts, time.monotonic()
            if frame.ts - first_ts >= self._duration:
                return
            due = began + frame.ts - first_ts
            if self._source.paced and (gap := due - time.monotonic()) > _LONG_GAP_S:
                about = {"seconds": round(gap, 1), "hint": "--fast doesn't wait"}
                logger.warning("the next frame's timestamp is far ahead; waiting for its time", extra=about)
            if self._source.paced and self._end_capture.wait(max(0.0, due - time.monotonic())):
                return
            self._arrived += 1
            self._rate.see(frame.ts, time.monotonic())
            if frame.encode is None or not self._due.is_due(frame.ts):
                self._thinned += 1
                continue
            try:
                picture = frame.encode()
            except PictureError as error:
                self._unencodable += 1
                logger.warning("skipping a frame", extra={"ts": frame.ts, "reason": str(error)})
                continue
            self._due.taken(frame.ts)
            if not self._buffer.put(Captured(frame.ts, picture)):
                return

    def _send(self) -> None:
        while self._count is None or self._published < self._count:
            frame = self._buffer.get()
            if frame is None:
                return
            if self._queue.publish(frame, self._cancelled):
                self._published += 1
            else:
                self._abandoned += 1

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
