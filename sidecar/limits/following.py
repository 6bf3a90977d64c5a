"""What every follower of the limits does, wherever they come from, and how it stands with their source."""

import asyncio
import contextlib
import enum
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

from sidecar.connections.errors import Problem
from sidecar.limits.table import FpsTable


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


class Follower(ABC):
    """Keeps the fps table in step with the limits.

    Args:
        table: Is kept up to date; its limits are stale while they can't be read.
        on_state: Is called at each change of the state, with the new one.
        on_problem: Is called whenever there is another problem with the limits, with a sentence about it; empty for none.
        set_stale: Is called with whether the limits can't be read; None: the table is told.
    """

    def __init__(
        self,
        table: FpsTable,
        on_state: Callable[[RedisState], None],
        on_problem: Callable[[str], None],
        set_stale: Callable[[bool], None] | None = None,
    ) -> None:
        self.state = RedisState.AWAY
        self.problem: Problem | None = None
        """Why the limits can't be read; None while they can, and before the first attempt."""
        self.problem_sentence = ""
        """What is wrong and what to do about it, in one line; empty if nothing is."""
        self._pushes = 0
        self._resyncs = 0
        self._table = table
        self._set_stale = set_stale or functools.partial(setattr, table, "stale")
        self._on_state = on_state
        self._on_problem = on_problem
        self._tried = asyncio.Event()

    @property
    def pushes(self) -> int:
        """Messages that something changed."""
        return self._pushes

    @property
    def resyncs(self) -> int:
        """Readings of all watched streams without such a message."""
        return self._resyncs

    async def wait_for_first_attempt(self, at_most_s: float) -> None:
        """Waits until the limits were read, or it was found that they can't be: the first frames then get their limits."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._tried.wait()

    @abstractmethod
    def age_s(self) -> float:
        """Returns the time since the table was last known to agree with the hash, seconds; infinity if it never was."""

    @abstractmethod
    async def learn(self, stream_names: Collection[str]) -> None:
        """Makes the table watch these streams, in bounded time. It never fails."""

    @abstractmethod
    async def run(self) -> None:
        """Follows until cancelled. Whatever fails, the table stays as it is, and it is tried again."""

    def _record(self, state: RedisState, problem: Problem | None = None, sentence: str = "", *, stale: bool) -> None:
        """Records the outcome of an attempt and reports what is different."""
        first = not self._tried.is_set()
        changed, problem_changed = first or state is not self.state, first or sentence != self.problem_sentence
        self.state, self.problem, self.problem_sentence = state, problem, sentence
        self._set_stale(stale)
        self._tried.set()
        if changed:
            self._on_state(state)
        if problem_changed:
            self._on_problem(sentence)
