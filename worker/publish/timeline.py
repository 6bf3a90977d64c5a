"""Converts positions in a film to capture times. Pure."""

import math
from typing import Protocol

MAX_POSITION = 1e9
"""Seconds, 31 years. Larger values of a damaged container aren't positions."""

MAX_GAP_S = 10.0
"""In a container whose clock may be set anew, such as a transport stream, a longer gap isn't one. FFmpeg's own limit."""

LONG_GAP_S = 60.0
"""A longer gap in another container may be a mistake: a film that is published at its own pace stands still for as long."""


class OnJump(Protocol):
    """Is told where positions jump."""

    def __call__(self, before: float, after: float, *, is_gap: bool) -> None:
        """Takes two positions, seconds, and whether the capture times have the gap between them too."""
        ...


def _nobody(before: float, after: float, *, is_gap: bool) -> None:
    pass


class Timeline:
    """Computes capture times that follow the film's own positions, always increase, and continue across loops.

    Positions are passed in the order of the frames. A position that isn't after the previous one (in a container without
    timestamps, or a damaged one) counts as one step later, and so does one after a longer gap than there may be.
    """

    def __init__(self, start: float, step: float, max_gap: float = math.inf, on_jump: OnJump = _nobody) -> None:
        """Starts at `start`, Unix seconds; `step` is the nominal time between two frames, seconds."""
        self._on_jump = on_jump
        self._start = start
        self._step = step
        self._max_gap = max_gap
        self._last: float | None = None
        self._origin: tuple[float, float] | None = None
        """The first position since the last loop or jump, and its capture time."""
        self._latest = -math.inf
        """The latest position since then."""

    def begin(self) -> None:
        """Does nothing: a loop says so by itself."""

    def told(self, position: float, captured_at: float) -> None:
        """Ignores when a film was captured: its frames are as old as the program says."""

    def arrives(self, position: float) -> float:
        """Takes the next packet's position, seconds or NaN; returns its frame's capture time as far as it's known now.

        Packets may come in another order than their frames, and their frames may be left out.
        """
        due = self._start if self._last is None else self._last + self._step
        if not abs(position) <= MAX_POSITION:  # true for NaN
            return due
        if self._origin is None:
            self._origin, self._latest = (position, due), position
        elif abs(position - self._latest) > self._max_gap:
            self._on_jump(self._latest, position, is_gap=False)
            self._origin, self._latest = (position, due), position
        elif position - self._latest > LONG_GAP_S:
            self._on_jump(self._latest, position, is_gap=True)
        self._latest = max(self._latest, position)
        return self._origin[1] + (position - self._origin[0])

    def left_out(self, position: float) -> float:
        """Takes the next packet's position, seconds or NaN; its frame won't be decoded. Returns its capture time."""
        ts = self.arrives(position)
        if not abs(position) <= MAX_POSITION:
            self._last = ts
        return ts

    def ts(self, position: float) -> float:
        """Returns the capture time, Unix seconds, of the frame at this position, seconds."""
        due = self._start if self._last is None else self._last + self._step
        ts = due
        if abs(position) <= MAX_POSITION:  # false for NaN
            ts = self.arrives(position)
        self._last = ts if self._last is None or ts > self._last else due
        return self._last

    def loop(self) -> None:
        """Restarts the film: the next position is its first one again, one step after the last capture time."""
        self._origin = None
        self._latest = -math.inf
