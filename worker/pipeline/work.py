"""A frame on its way through the stages, and all those that are."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.picture import Picture
    from worker.queue.delivery import Delivery
    from worker.queue.frame import Frame


@dataclass(eq=False, slots=True)
class Work:
    """A frame that is being counted."""

    frame: Frame
    delivery: Delivery
    payload: bytes | None
    """The encoded picture, until it is decoded."""
    age: float
    """Of the entry when counting began, seconds."""
    begun_at: float = field(default_factory=time.monotonic)
    attempts: int = 0
    """How often an error was raised."""
    image: Picture | None = None
    """The picture, until the frame is settled."""
    decode_s: float = 0.0
    submitted_at: float = 0.0
    """When the detector got the picture, as :func:`time.perf_counter` says."""
    detect_s: float = 0.0


class InProgress:
    """The frames that are being counted, and how many may be. For any thread."""

    def __init__(self, most: int) -> None:
        """Starts without any.

        Args:
            most: how many frames keep the detector busy. More would only be older when their hands are counted, and couldn't be
                superseded any more.
        """
        self.most = most
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._empty = threading.Condition(self._lock)
        self._reserved = 0
        """Frames, and threads that wait for one."""
        self._works: dict[Work, None] = {}
        """The oldest first."""

    def __len__(self) -> int:
        return len(self._works)

    def reserve(self) -> None:
        """Waits until another frame may be begun."""
        with self._lock:
            while self._reserved >= self.most:
                self._room.wait()
            self._reserved += 1

    def cancel(self) -> None:
        """Says that no frame came."""
        with self._lock:
            self._free()

    def begin(self, work: Work) -> None:
        """Adds a frame for which there is a reservation."""
        with self._lock:
            self._works[work] = None

    def end(self, work: Work) -> None:
        """Removes a frame, which is settled."""
        with self._lock:
            del self._works[work]
            self._free()
            if not self._works:
                self._empty.notify_all()

    def _free(self) -> None:
        self._reserved -= 1
        self._room.notify()

    def wait_until_empty(self, seconds: float) -> None:
        """Returns when no frame is in progress any more, or after this many seconds."""
        with self._lock:
            self._empty.wait_for(lambda: not self._works, max(0.0, seconds))

    def longest_seconds(self) -> float:
        """Returns for how long the oldest of the frames has been in progress; 0 if there is none."""
        with self._lock:
            oldest = next(iter(self._works), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.begun_at
