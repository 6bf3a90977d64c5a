"""The few frames between the thread that captures and the thread that publishes."""

from __future__ import annotations

import collections
import threading

from worker.publish.source import Captured


class FrameBuffer:
    """A bounded queue that, when full, either drops its oldest frame or makes the capture wait."""

    def __init__(self, size: int, drop_oldest: bool) -> None:
        self.dropped = 0
        """Frames that were captured and will not be published."""
        self._size = size
        self._drop_oldest = drop_oldest
        self._frames: collections.deque[Captured] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, frame: Captured) -> bool:
        """Adds a frame; says whether the buffer still takes any."""
        with self._changed:
            if self._drop_oldest and len(self._frames) >= self._size:
                self._frames.popleft()
                self.dropped += 1
            while len(self._frames) >= self._size and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def get(self) -> Captured | None:
        """Takes the oldest frame, waiting for one; None when the buffer is closed and empty."""
        with self._changed:
            while not self._frames and not self._closed:
                self._changed.wait()
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def close(self, discard: bool = False) -> None:
        """Takes no more frames; those in it can still be got, unless they are discarded, which counts as dropped."""
        with self._changed:
            self._closed = True
            if discard:
                self.dropped += len(self._frames)
                self._frames.clear()
            self._changed.notify_all()
