"""Limits without a sidecar: the rule as a source's limit, and the value of a boost."""

from handcounter.pacing.limits import Boost
from handcounter.pacing.schedule import Decision, Pacing, Schedule, decide, next_ts
from handcounter.pacing.times import RealTime, StreamTime


class RuleDue:
    """Says by the rule which frames are due at a limit that tests may change."""

    def __init__(self, fps: float, pacing: Pacing = Pacing.GCRA) -> None:
        self.limit = fps
        self.catches_up = pacing is Pacing.GCRA
        self.admitted: list[float] = []
        self._pacing = pacing
        self._schedule: Schedule | None = None
        self._last: Decision | None = None
        """The last answer. Whoever reads a source asks several times about each frame."""
        self._asked = (0.0, 0.0, self._schedule)
        """What it was the answer to."""

    def fps(self) -> float:
        return self.limit

    def next_ts(self) -> float:
        return next_ts(self._schedule, self.limit)

    def is_due(self, ts: float) -> bool:
        return self._decide(ts).admitted

    def taken(self, ts: float) -> None:
        self._schedule = self._decide(ts).schedule
        self.admitted.append(ts)

    def _decide(self, ts: float) -> Decision:
        asked_ts, limit, schedule = self._asked
        if self._last is None or ts != asked_ts or limit != self.limit or schedule is not self._schedule:
            self._asked = ts, self.limit, self._schedule
            self._last = decide(self._schedule, StreamTime(ts), self.limit, RealTime(ts), self._pacing)
        return self._last


def boost_value(boost: Boost) -> str:
    """Returns the value that stands for a boost, exactly."""
    return f"{boost.fps!r} {boost.until!r}"
