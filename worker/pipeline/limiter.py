"""The interface of the rate limiter, as far as the worker needs it."""

from collections.abc import Sequence
from typing import Protocol

from handcounter.pacing.schedule import Reason


class FrameLimiter(Protocol):
    """Decides frames."""

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides frames, each a stream_name and a ts in seconds, in their order."""
        ...


class Limiter(FrameLimiter, Protocol):
    """Decides frames, and says whose limit isn't known; :class:`handcounter.client.RateLimiter` is one."""

    @property
    def sidecar_unreachable(self) -> bool:
        """Whether asking again makes no sense yet."""
        ...

    def decide_known(self, frames: Sequence[tuple[str, float]]) -> list[Reason | None]:
        """Does the same, but leaves frames of streams with an unknown limit undecided."""
        ...

    def limits(self, stream_names: Sequence[str]) -> list[float | None]:
        """Returns the limits in force, frames per second, without deciding a frame; None if a limit is unknown."""
        ...

    def which_are_paused(self, stream_names: Sequence[str]) -> set[str]:
        """Returns those streams that are paused, without deciding a frame."""
        ...

    def told_fps(self, stream_name: str) -> float | None:
        """Returns the last known limit, frames per second; None if it is unknown."""
        ...
