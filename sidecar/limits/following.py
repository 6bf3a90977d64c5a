"""What keeps the fps table in step with the limits, wherever they come from, and how it stands with Redis."""

import enum
from collections.abc import Collection
from typing import Protocol

from sidecar.connections.errors import Problem


class RedisState(enum.IntEnum):
    """How the sidecar stands with Redis; names and numbers are those of the contract, metrics and /healthz."""

    TRACKING = 1
    """Redis pushes changes."""
    POLLING = 2
    """Redis doesn't push, so changes are polled."""
    AWAY = 3
    """The limits can't be read: Redis is unreachable, or rejects the login or the reading."""

    @property
    def is_reachable(self) -> bool:
        """Whether the limits can be read."""
        return self is not RedisState.AWAY


class Follower(Protocol):
    """Keeps the fps table in step with the limits, wherever they come from."""

    state: RedisState
    problem: Problem | None
    """Why the limits can't be read; None while they can, and before the first attempt."""
    problem_sentence: str
    """What is wrong and what to do about it, in one line; empty if nothing is."""

    @property
    def pushes(self) -> int:
        """Messages that something changed."""

    @property
    def resyncs(self) -> int:
        """Readings of all watched streams without one."""

    async def wait_for_first_attempt(self, at_most_s: float) -> None:
        """Waits until the limits were read, or it was found that they can't be."""

    def age_s(self) -> float:
        """Returns the time since the table was last known to agree with the hash, seconds; infinity if it never was."""

    async def learn(self, stream_names: Collection[str]) -> None:
        """Makes the table watch these streams, in bounded time. It never fails."""

    async def run(self) -> None:
        """Follows until cancelled."""
