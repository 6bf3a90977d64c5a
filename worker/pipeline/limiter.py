"""What decides which frames are counted, as the worker needs it."""

from collections.abc import Sequence
from typing import Protocol

from handcounter.pacing.schedule import Reason


class Limiter(Protocol):
    """Decides frames; :class:`handcounter.client.RateLimiter` is one."""

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides frames, each a stream_name and a ts in seconds, in their order."""
        ...
