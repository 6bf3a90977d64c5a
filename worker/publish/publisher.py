"""Publishes one source as one stream: the thread that captures, and how it ends.

    capture ──frames──▶ outlet ──frames──▶ sender, one for all streams
    the source's own pace   a few frames        Redis

At the end of the source, the count or the duration, the frames in the outlet are still sent; a stop discards them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from process.backoff import Backoff
from worker.picture_header import PictureError, size
from worker.publish.outages import Outages
from worker.publish.outbox import Outlet
from worker.publish.source import Captured, Source, SourceError
from worker.publish.source_rate import SourceRate
from worker.publish.thinning import Due, Unlimited

logger = logging.getLogger(__name__)

_LONG_GAP_S = 30.0
"""A wait between two frames of a film that is worth a line in the log."""

GRACE_S = 0.4
"""Seconds that a stop waits for the threads."""

_LAST_FRAMES_S = 5.0
"""Seconds that a live source's last frames are retried after its duration while Redis is unreachable; a film's forever."""


class Channel(Protocol):
    """The way of one stream's frames to Redis."""

    error: Exception | None
    """Why no frame can be published any more."""

    @property
    def outlet(self) -> Outlet:
        """Takes the frames."""
        ...

    def begin(self, *, live: bool, waits: bool) -> None:
        """Prepares for frames that are or aren't live, of a source that can or can't wait."""
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
        opens: Callable[[], Source],
        channel: Channel,
        outages: Outages,
        *,
        duration: float = math.inf,
        due: Due | None = None,
        retry: Backoff | None = None,
    ) -> None:
        """Publishes the frames that are due; without `due` all of them.

        Args:
            opens: opens the source, or raises SourceError.
            channel: takes the frames.
            outages: where is noted whether the source works.
            duration: seconds of capture times after which it stops, unless the source ends before.
            due: which frames are to be published.
            retry: when a source that fails is opened again; None: that ends the publisher.
        """
        self.error: BaseException | None = None
        """The error that ended it, None after the end of the source or a stop."""
        self.ended_at: float | None = None
        """When the source came to its end or failed for good, Unix seconds; None before, and after a stop."""
        self.last_ts: float | None = None
        """Capture time of the last frame."""
        self.source: Source | None = None
        """The source, once it is open."""
        self.picture_size: tuple[int, int] | None = None
        """Width and height of the last picture to be published."""
        self._opens = opens
        self._channel = channel
        self._outlet = channel.outlet
        self._outages = outages
        self._duration = duration
        self._due: Due = Unlimited() if due is None else due
        self._retry = retry
        self._rate = SourceRate()
        self._end_capture = threading.Event()
        self._arrived = 0
        self._thinned = 0
        self._unencodable = 0
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"capture-{self._outlet.stream_name}", daemon=True)

    @property
    def done(self) -> threading.Event:
        """Set when there is nothing left to do."""
        return self._outlet.done

    def start(self) -> None:
        """Starts the thread."""
        self._started = time.monotonic()
        self._thread.start()

    def progress(self) -> Progress:
        """Returns the progress, at any time."""
        return Progress(
            arrived=self._arrived,
            published=self._outlet.published,
            thinned=self._thinned,
            dropped=self._outlet.dropped + self._unencodable,
            seconds=time.monotonic() - self._started,
        )

    def source_fps(self) -> float:
        """Returns how many frames per second the source delivers; 0 while that isn't known, and while nothing comes."""
        return self._rate.fps(time.monotonic())

    def seconds_left(self) -> float:
        """Returns how long it still has by its duration, and ends what is over by then. To be called until it is done."""
        if self._duration == math.inf or (self.source and not self.source.live):
            return math.inf
        left = self._started + self._duration - time.monotonic()
        if left <= 0 and not (self.source and self.source.paced):  # a silent camera has no frame that would end it
            self._end_capture.set()
            self._outlet.close()
        if left + _LAST_FRAMES_S <= 0:
            self.request_stop()
        return max(0.0, left if left > 0 else left + _LAST_FRAMES_S)

    def request_stop(self) -> None:
        """Asks the thread to end; discards the frames that aren't sent."""
        self._end_capture.set()
        self._outlet.close(discard=True)

    def join(self, timeout: float) -> bool:
        """Waits for the thread; returns False if it is in a call that can't be interrupted."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def stop(self) -> bool:
        """Asks for the end and waits for it for a moment; returns False if the thread can't be interrupted."""
        self.request_stop()
        return self.join(GRACE_S)

    def _run(self) -> None:
        try:
            self._publish_until_it_ends()
        except SourceError as error:
            self.error = error
        except Exception as error:
            logger.exception("the publisher failed")
            self.error = error
        if not self._end_capture.is_set():
            self.ended_at = time.time()
        self._outlet.close()

    def _publish_until_it_ends(self) -> None:
        while not self._end_capture.is_set():
            try:
                self.source = source = self._opens()
                self._channel.begin(live=source.live or source.paced, waits=not source.live)
                self._capture(source)
                return
            except SourceError as error:
                if self._retry is None:
                    raise
                self._outages.lost(str(error))
            except Exception as error:
                if self._retry is None:
                    raise
                logger.exception("the publisher failed; retrying", extra={"stream": self._outlet.stream_name})
                self._outages.lost(f"the publisher failed: {type(error).__name__}")
            self._end_capture.wait(self._retry.next())

    def _capture(self, source: Source) -> None:
        first_ts, began = None, 0.0
        for frame in source.frames(self._end_capture, self._due):
            if first_ts is None:
                first_ts, began = frame.ts, time.monotonic()
            if frame.ts - first_ts >= self._duration:
                return
            due = began + frame.ts - first_ts
            if source.paced and (gap := due - time.monotonic()) > _LONG_GAP_S:
                about = {"seconds": round(gap, 1), "hint": "--fast doesn't wait"}
                logger.warning("the next frame's timestamp is far ahead; waiting for its time", extra=about)
            if source.paced and self._end_capture.wait(max(0.0, due - time.monotonic())):
                return
            self._note(frame.ts)
            if frame.encode is None or not self._due.is_due(frame.ts):
                self._thinned += 1
                continue
            try:
                picture = frame.encode()
                self.picture_size = size(picture)
            except PictureError as error:
                self._unencodable += 1
                logger.warning("skipping a frame", extra={"ts": frame.ts, "reason": str(error)})
                continue
            self._due.taken(frame.ts)
            captured = Captured(frame.ts, picture)
            del frame, picture  # or they would stay until the next frame
            if not self._outlet.put(captured):
                return
            del captured

    def _note(self, ts: float) -> None:
        self._arrived += 1
        self.last_ts = ts
        self._rate.see(ts, time.monotonic())
        if self._retry and self._outages.working is False:
            self._retry.reset()
        self._outages.works()
