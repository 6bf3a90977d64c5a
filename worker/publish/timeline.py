"""From positions in a film to capture times. Pure."""

MAX_POSITION = 1e9
"""Seconds, 31 years. What a broken container claims beyond that is no position."""


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
        self._origin: tuple[float, float] | None = None
        """The first position of this pass, and its capture time."""

    def ts(self, position: float) -> float:
        """Gives the capture time, Unix seconds, of the frame at this position, seconds."""
        due = self._start if self._last is None else self._last + self._step
        ts = due
        if abs(position) <= MAX_POSITION:  # NaN isn't
            if self._origin is None:
                self._origin = position, due
            ts = self._origin[1] + (position - self._origin[0])
        self._last = ts if self._last is None or ts > self._last else due
        return self._last

    def loop(self) -> None:
        """Says that the next position is the film's first one again; it comes one step after the last."""
        self._origin = None
