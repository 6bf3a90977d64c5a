"""The frames between the thread that captures and the thread that publishes."""

from __future__ import annotations

import collections
import threading

from worker.publish.source import Captured


class FrameBuffer:
    """A bounded buffer that drops its oldest frame when it is full, or makes the capture wait."""

    def __init__(self, size: int, drop_oldest: bool) -> None:
        self.dropped = 0
        """Frames that were captured but won't be published."""
        self._size = size
        self._drop_oldest = drop_oldest
        self._frames: collections.deque[Captured] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, frame: Captured) -> bool:
        """Adds a frame; returns False if the buffer is closed."""
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
        """Removes and returns the oldest frame; waits for one. None means that the buffer is closed and empty."""
        with self._changed:
            while not self._frames and not self._closed:
                self._changed.wait()
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def close(self, discard: bool = False) -> None:
        """Accepts no more frames. Those in the buffer can still be taken, or are discarded and count as dropped."""
        with self._changed:
            self._closed = True
            if discard:
                self.dropped += len(self._frames)
                self._frames.clear()
            self._changed.notify_all()
