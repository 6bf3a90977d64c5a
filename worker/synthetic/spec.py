"""A simulated camera as users write it: synthetic:fps=15,hands=2,seed=1. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

PREFIX = "synthetic:"
MAX_HANDS = 3
MAX_PEOPLE = 3
MAX_JITTER = 0.45


@dataclass(frozen=True)
class SyntheticSpec:
    """The properties of a simulated camera. Raises ValueError if a value is out of range."""

    fps: float = 25.0
    """Frames per second, above 0."""
    hands: tuple[int, int] = (0, 3)
    """The lowest and highest number of hands in a frame, 0 to 3; if they differ, it changes every few seconds."""
    seed: int = 0
    """Another seed shows another scene."""
    size: tuple[int, int] = (640, 480)
    """Width and height, 64 to 4096 pixels."""
    jitter: float = 0.0
    """Largest deviation of capture times from the even grid, as a share of the period: 0 to MAX_JITTER."""
    people: tuple[int, int] | None = None
    """The lowest and highest number of whole people in a frame, 0 to 3, each with two hands; None: hands alone."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a number above 0, got {self.fps}")
        if not all(64 <= pixels <= 4096 for pixels in self.size):
            raise ValueError(f"size must be 64 to 4096 pixels each way, got {self.size[0]}x{self.size[1]}")
        if not 0 <= self.hands[0] <= self.hands[1] <= MAX_HANDS:
            raise ValueError(f"hands must be 0 to {MAX_HANDS} or a range within, got {self.hands[0]}-{self.hands[1]}")
        if self.people is not None and not 0 <= self.people[0] <= self.people[1] <= MAX_PEOPLE:
            raise ValueError(
                f"people must be 0 to {MAX_PEOPLE} or a range within, got {self.people[0]}-{self.people[1]}"
            )
        if not 0 <= self.jitter <= MAX_JITTER:
            raise ValueError(f"jitter must be 0 to {MAX_JITTER}, got {self.jitter}")

    def position(self, index: int) -> float:
        """Returns the capture time of frame `index`, seconds since the first frame."""
        stray = random.Random(f"{self.seed}/jitter/{index}").uniform(-1, 1) if self.jitter and index else 0.0
        return (index + self.jitter * stray) / self.fps


def parse_synthetic(text: str) -> SyntheticSpec:
    """Parses a specification, in which every property may be omitted. Raises ValueError."""
    if text.rstrip(":") == PREFIX.rstrip(":"):
        return SyntheticSpec()
    given: dict[str, str] = {}
    for item in text.removeprefix(PREFIX).split(","):
        name, equals, value = item.partition("=")
        if not equals or name not in _READERS:
            raise ValueError(f"expected {PREFIX}{'=,'.join(_READERS)}= (each may be omitted), got {item!r}")
        given[name] = value
    read = {name: _read(name, value) for name, value in given.items()}
    return SyntheticSpec(**read)  # type: ignore[arg-type]


def _read(name: str, value: str) -> object:
    try:
        return _READERS[name](value)
    except ValueError:
        raise ValueError(f"expected {name}={_EXAMPLES[name]}, got {name}={value}") from None


def _range(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    return int(least), int(most or least)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


_READERS: dict[str, Callable[[str], object]] = {
    "fps": float,
    "hands": _range,
    "seed": int,
    "size": _size,
    "jitter": float,
    "people": _range,
}
_EXAMPLES = {
    "fps": "25",
    "hands": "2 or hands=0-3",
    "seed": "1",
    "size": "640x480",
    "jitter": "0.2",
    "people": "2 or people=0-2",
}
