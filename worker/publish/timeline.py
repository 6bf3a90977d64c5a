"""Converts positions in a film to capture times. Pure."""

MAX_POSITION = 1e9
"""Seconds, 31 years. Larger values of a damaged container aren't positions."""


class Timeline:
    """Computes capture times that follow the film's own positions, always increase, and continue across loops.

    Positions are passed in the order of the frames. A position that isn't after the previous one (in a container without
    timestamps, or a damaged one) counts as one step later.
    """

    def __init__(self, start: float, step: float) -> None:
        """Starts at `start`, Unix seconds; `step` is the nominal time between two frames, seconds."""
        self._start = start
        self._step = step
        self._last: float | None = None
        self._origin: tuple[float, float] | None = None
        """The first position since the last loop, and its capture time."""

    def ts(self, position: float) -> float:
        """Returns the capture time, Unix seconds, of the frame at this position, seconds."""
        due = self._start if self._last is None else self._last + self._step
        ts = due
        if abs(position) <= MAX_POSITION:  # false for NaN
            if self._origin is None:
                self._origin = position, due
            ts = self._origin[1] + (position - self._origin[0])
        self._last = ts if self._last is None or ts > self._last else due
        return self._last

    def loop(self) -> None:
        """Restarts the film: the next position is its first one again, one step after the last capture time."""
        self._origin = None
