"""Which frames of a stream will be admitted: the interface by which a publisher asks before it spends anything on a frame.

A denied frame changes nothing, so a publisher that leaves out what would be denied changes no decision.
"""

from __future__ import annotations

import math
from typing import Protocol


class Due(Protocol):
    """The limit of one stream, and where it stands. For the capture's thread alone; no call may wait."""

    @property
    def catches_up(self) -> bool:
        """Whether frames that come up to a period late lose nothing of the rate, as with gcra; with min-gap they do."""
        ...

    def fps(self) -> float:
        """Returns the limit in force, frames per second: 0 while the stream is paused, infinity without a limit."""
        ...

    def next_ts(self) -> float:
        """Returns the earliest capture time that is due at the limit in force; infinity while paused, -infinity: any."""
        ...

    def is_due(self, ts: float) -> bool:
        """Returns whether a frame with this capture time would be admitted now. Changes nothing."""
        ...

    def taken(self, ts: float) -> None:
        """Notes that the frame with this capture time, which was due, is encoded and on its way to the queue."""
        ...


class Unlimited:
    """Every frame is due."""

    catches_up = True

    def fps(self) -> float:
        """Returns infinity."""
        return math.inf

    def next_ts(self) -> float:
        """Returns -infinity."""
        return -math.inf

    def is_due(self, ts: float) -> bool:  # noqa: ARG002
        """Returns True."""
        return True

    def taken(self, ts: float) -> None:
        """Does nothing."""
