"""Frames per second of one stream, from frame to frame. Pure.

The window is the longer of 10 s and 50 frames, because 10 s of a slow stream are too few frames to count. It begins and
ends with a frame, so the rate doesn't depend on where between two frames it is read.
"""

import math
from collections import deque

WINDOW_S = 10.0
WINDOW_FRAMES = 50

SILENT_S = 5.0
"""After how long without a frame a stream is silent, unless its frames are further apart anyway."""

_PARTS = 17
"""Marks in a window, about: the window is by at most this part longer than it should be."""
_PART_S = WINDOW_S / _PARTS
_PART_FRAMES = WINDOW_FRAMES / _PARTS


class RateWindow:
    """Notes the times of frames, and returns how many there are per second. Times are in seconds, by any one clock."""

    __slots__ = ("_at", "_marks", "_total")

    def __init__(self) -> None:
        self._at = 0.0
        self._total = 0
        self._marks: deque[tuple[float, int]] = deque()
        """Time and number of some earlier frames, oldest first."""

    def note(self, at: float, total: int) -> None:
        """Notes the newest frame: its time, and how many frames there are with it, not fewer than before."""
        if total <= self._total:
            return
        marks = self._marks
        self._at, self._total = max(at, self._at), total
        if not marks or (self._at - marks[-1][0] >= _PART_S and total - marks[-1][1] >= _PART_FRAMES):
            marks.append((self._at, total))
        while len(marks) > 1 and self._at - marks[1][0] >= WINDOW_S and total - marks[1][1] >= WINDOW_FRAMES:
            marks.popleft()

    def fps(self, now: float = -math.inf) -> float:
        """Returns the frames per second at this time, or else at that of the newest frame; 0 until there are two frames."""
        if not self._marks:
            return 0.0
        since, before = self._marks[0]
        frames, elapsed = self._total - before, self._at - since
        if frames <= 0 or elapsed <= 0.0:
            return 0.0
        # Silence counts as far as it is longer than the mean time between two frames.
        return frames / max(elapsed, now - since - elapsed / frames)

    def silent(self, now: float) -> bool:
        """Returns whether no frame has come for 5 s, and for more than twice the mean time between frames."""
        quiet = now - self._at
        if quiet < SILENT_S:
            return False
        since, before = self._marks[0] if self._marks else (self._at, self._total)
        frames, elapsed = self._total - before, self._at - since
        return frames <= 0 or quiet > 2.0 * elapsed / frames
