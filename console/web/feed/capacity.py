"""What the workers were seen to count within the last hour, and while they were full. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from console.control.capacity import given_up, is_full

WINDOW_S: Final = 10.0
KEPT_S: Final = 3600.0


@dataclass(frozen=True)
class Capacity:
    """All in frames per second."""

    asked: float
    """What the limits let through of what the cameras deliver now."""
    counted: float
    given_up: float
    """Admitted frames that a newer one superseded, or that became too old."""
    peak: float
    """The highest counted rate of the last hour."""
    most: float | None
    """The highest counted rate of the last hour while the workers were full; None: they weren't, so it isn't known."""

    @property
    def full(self) -> bool:
        """Whether the workers can't count more."""
        return is_full(self.counted, self.given_up)

    def shown(self) -> dict[str, object]:
        """Returns it as JSON."""
        numbers = {"asked": self.asked, "counted": self.counted, "given_up": self.given_up, "peak": self.peak}
        most = None if self.most is None else round(self.most, 2)
        return {**{name: round(number, 2) for name, number in numbers.items()}, "most": most, "full": self.full}


class _Peak:
    """The highest of the last hour."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque()

    def note(self, value: float, now: float) -> None:
        while self._values and self._values[-1][1] <= value:
            self._values.pop()
        self._values.append((now, value))

    def highest(self, now: float) -> float | None:
        while self._values and now - self._values[0][0] > KEPT_S:
            self._values.popleft()
        return self._values[0][1] if self._values else None


class CapacityWatch:
    """Rates from the accounting's counters, and their highest of the last hour."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int, int]] = deque()
        self._peak = _Peak()
        self._full_peak = _Peak()

    def note(self, accounting: Mapping[str, int], now: float) -> None:
        """Takes a reading of the counters."""
        counted = accounting.get("counted", 0)
        if self._readings and (counted < self._readings[-1][1] or now <= self._readings[-1][0]):
            self._readings.clear()  # the counters or the clock were set back
        self._readings.append((now, counted, given_up(accounting)))
        while len(self._readings) > 2 and now - self._readings[1][0] >= WINDOW_S:
            self._readings.popleft()
        if now - self._readings[0][0] >= WINDOW_S:
            rates = self._rates()
            self._peak.note(rates[0], now)
            if is_full(*rates):
                self._full_peak.note(rates[0], now)

    def capacity(self, asked: float, now: float) -> Capacity:
        """Returns what is known now; asked in frames per second, now in Unix seconds."""
        counted, given_up = self._rates()
        return Capacity(asked, counted, given_up, self._peak.highest(now) or 0.0, self._full_peak.highest(now))

    def _rates(self) -> tuple[float, float]:
        if len(self._readings) < 2:
            return 0.0, 0.0
        (begin, counted, given_up), (end, counted_now, given_up_now) = self._readings[0], self._readings[-1]
        return (counted_now - counted) / (end - begin), (given_up_now - given_up) / (end - begin)
