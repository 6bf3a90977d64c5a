"""From positions in a film to capture times. Pure."""

import math


class Timeline:
    """Gives capture times that follow the film's own positions, only ever increase, and go on over a loop.

    Positions are passed in the order of the frames. One that isn't after the one before it (a container without
    timestamps, a broken one) counts as one step later.
    """

    def __init__(self, start: float, step: float) -> None:
        """Begins at `start`, Unix seconds; `step` is the nominal time between two frames, seconds."""
        self._start = start
        self._step = step
        self._last: float | None = None
        self._base: float | None = None

    def ts(self, position: float) -> float:
        """Gives the capture time, Unix seconds, of the frame at this position, seconds."""
        if self._base is None and math.isfinite(position):
            self._base = self._due() - position
        ts = self._due() if self._base is None or not math.isfinite(position) else self._base + position
        if self._last is not None and ts <= self._last:
            ts = self._due()
        self._last = ts
        return ts

    def loop(self) -> None:
        """Says that the next position is the film's first one again; it comes one step after the last."""
        self._base = None

    def _due(self) -> float:
        return self._start if self._last is None else self._last + self._step
