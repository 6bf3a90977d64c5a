"""The frames of all cameras of a process on their way from the captures to Redis.

Redis never delays the capture of a live source: when its outlet is full it drops its oldest frame, and when all outlets
together hold too many bytes, the outlet that holds most does. So neither a slow Redis nor the number of cameras makes memory
grow. A source that can wait does.
"""

from __future__ import annotations

import collections
import math
import threading
from collections.abc import Callable

from worker.publish.source import Captured

OUTLET_FRAMES = 32
"""About a second of a live camera."""

OUTBOX_BYTES = 64 * 1024 * 1024
"""Of the pictures of all cameras that wait for Redis."""


class Outbox:
    """The outlets of all cameras. One thread takes frames; any thread may do the rest."""

    def __init__(self, clock: Callable[[], float], max_bytes: int = OUTBOX_BYTES) -> None:
        """Takes real time, seconds by a monotonic clock, and how many bytes of pictures may wait."""
        self.changed = threading.Condition()
        self.bytes = 0
        """Of the pictures that wait."""
        self._clock = clock
        self._max_bytes = max_bytes
        self._outlets: collections.OrderedDict[Outlet, None] = collections.OrderedDict()
        """Those with frames, in the order in which it is their turn."""
        self._closed = False

    def open(self, stream_name: str, *, size: int = OUTLET_FRAMES, most: int | None = None) -> Outlet:
        """Returns an outlet for the frames of one stream.

        Args:
            stream_name: for whoever takes its frames.
            size: how many frames may wait in it.
            most: after how many published frames it ends; None: never.
        """
        return Outlet(self, stream_name, size, math.inf if most is None else most)

    def take(self, most_frames: int, most_bytes: int) -> list[tuple[Outlet, Captured]]:
        """Waits for frames that can be sent now; returns at most one of each outlet, or none if the outbox is closed.

        Each has to be settled or given back before its outlet has another one.
        """
        with self.changed:
            while not self._closed:
                now = self._clock()
                wait = math.inf
                taken: list[tuple[Outlet, Captured]] = []
                size = 0
                for outlet in list(self._outlets):
                    if outlet.sending:
                        continue
                    if outlet.not_before > now:
                        wait = min(wait, outlet.not_before - now)
                        continue
                    if len(taken) >= most_frames or (taken and size >= most_bytes):
                        break
                    self._outlets.move_to_end(outlet)
                    frame = outlet.take_first()
                    size += len(frame.picture)
                    taken.append((outlet, frame))
                if taken:
                    self.changed.notify_all()  # there is room
                    return taken
                self.changed.wait(min(wait, threading.TIMEOUT_MAX))
        return []

    def close(self) -> None:
        """Ends the waits for frames."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def has_room(self) -> bool:
        """Returns whether a source that can wait needn't."""
        return self.bytes < self._max_bytes

    def added(self, outlet: Outlet, size: int) -> None:
        """Notes the bytes of a frame that was added to an outlet; drops others if they are too many."""
        self.bytes += size
        self._outlets.setdefault(outlet)
        while self.bytes > max(self._max_bytes, size):
            droppable = [each for each in self._outlets if each.live and each.bytes]
            if not droppable:
                break
            max(droppable, key=lambda each: each.bytes).drop_oldest()
        self.changed.notify_all()

    def is_next(self, outlet: Outlet) -> None:
        """Notes that it is an outlet's turn before all others'."""
        self._outlets.move_to_end(outlet, last=False)

    def emptied(self, outlet: Outlet) -> None:
        """Notes that an outlet has no frames any more."""
        self._outlets.pop(outlet, None)


class Outlet:
    """The frames of one stream that wait for Redis: a bounded buffer that drops its oldest frame, or makes the capture wait."""

    def __init__(self, outbox: Outbox, stream_name: str, size: int, most: float) -> None:
        self.stream_name = stream_name
        self.live = True
        """Whether it drops its oldest frame if it is full; otherwise the capture waits. Set before the first frame."""
        self.done = threading.Event()
        """Set when it is closed, and every frame was published or dropped."""
        self.published = 0
        self.published_bytes = 0
        self.dropped = 0
        """Frames that were captured but won't be published."""
        self.bytes = 0
        """Of the frames that wait, without the one that is being sent."""
        self.sending: Captured | None = None
        """The frame that is being sent."""
        self.not_before = -math.inf
        """When it may be sent again, after an attempt that failed."""
        self._outbox = outbox
        self._changed = outbox.changed
        self._size = size
        self._most = most
        self._frames: collections.deque[Captured] = collections.deque()
        self._again: Captured | None = None
        """The frame whose last attempt failed. It may be in Redis already, so it isn't dropped before others."""
        self._closed = False
        self._discarded = False

    def put(self, frame: Captured) -> bool:
        """Adds a frame; returns False if the outlet is closed."""
        with self._changed:
            if self.live and len(self._frames) >= self._size:
                self.drop_oldest()
            while not (self.live or self._closed) and (len(self._frames) >= self._size or not self._has_room()):
                self._changed.wait()
            if self._closed:
                return False
            self._frames.append(frame)
            self.bytes += len(frame.picture)
            self._outbox.added(self, len(frame.picture))
            return True

    def close(self, discard: bool = False) -> None:
        """Accepts no more frames. Those in it can still be published, or are discarded and count as dropped."""
        with self._changed:
            self._closed = True
            if discard:
                self._discard()
            self._end_if_done()
            self._changed.notify_all()

    def take_first(self) -> Captured:
        """Returns the frame that is to be sent next. For the outbox, which holds the lock."""
        frame, self._again = self._again, None
        if frame is None:
            frame = self._frames.popleft()
            self._forget(frame)
        self.sending = frame
        return frame

    def settle(self) -> None:
        """Notes that the frame that was being sent is published."""
        with self._changed:
            if self.sending:
                self.published += 1
                self.published_bytes += len(self.sending.picture)
            self.sending = None
            if self.published >= self._most:
                self._closed = True
                self._discard()
            self._end_if_done()
            self._changed.notify_all()

    def give_back(self, not_before: float) -> None:
        """Notes that the frame that was being sent has to be sent again, from this time on; seconds, monotonic."""
        with self._changed:
            self.not_before = not_before
            if self._discarded:
                self.dropped += self.sending is not None
            else:
                self._again = self.sending
                self._outbox.is_next(self)  # so that few frames have to be kept for another attempt
            self.sending = None
            self._end_if_done()
            self._changed.notify_all()

    def drop_oldest(self) -> bool:
        """Drops the oldest frame; returns False if there is none. For whoever holds the lock."""
        if not self._frames:
            return False
        self._forget(self._frames.popleft())
        self.dropped += 1
        self._end_if_done()
        return True

    def _discard(self) -> None:
        self._discarded = True
        self.dropped += self._again is not None
        self._again = None
        while self.drop_oldest():
            pass

    def _forget(self, frame: Captured) -> None:
        self.bytes -= len(frame.picture)
        self._outbox.bytes -= len(frame.picture)

    def _has_room(self) -> bool:
        return not self._frames or self._outbox.has_room()

    def _end_if_done(self) -> None:
        if not (self._frames or self._again or self.sending):
            self._outbox.emptied(self)
            if self._closed:
                self.done.set()
