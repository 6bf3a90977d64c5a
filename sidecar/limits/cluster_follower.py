"""Follows the limits, the patterns and the boosts in a Redis Cluster, where each may be on another node.

Each of the three has a connection of its own to the node that holds it. The limits are stale while any of them can't be read.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from sidecar.limits.following import Follower, RedisState
from sidecar.limits.table import FpsTable

_BEST_FIRST = (RedisState.TRACKING, RedisState.POLLING, RedisState.AWAY)


class MakeFollower(Protocol):
    """Makes one of the followers."""

    def __call__(
        self,
        *,
        set_stale: Callable[[bool], None],
        on_state: Callable[[RedisState], None],
        on_problem: Callable[[str], None],
    ) -> Follower:
        """Returns a follower that calls these, as :class:`sidecar.limits.follower.FpsFollower` does."""


class ClusterFollower(Follower):
    """Several followers as one.

    Args:
        table: Is kept up to date by all of them.
        makers: Make the followers; the first one that of the streams.
        on_state: Is called at each change of the state, with the new one.
        on_problem: Is called whenever there is another problem, with a sentence about it; empty for none.
    """

    def __init__(
        self,
        table: FpsTable,
        makers: Sequence[MakeFollower],
        *,
        on_state: Callable[[RedisState], None] = lambda _state: None,
        on_problem: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        super().__init__(table, on_state, on_problem)
        self._stale = [True] * len(makers)
        self._followers: list[Follower] = []
        for number, make in enumerate(makers):
            self._followers.append(
                make(
                    set_stale=lambda stale, number=number: self._record_stale(number, stale),  # type: ignore[misc]
                    on_state=lambda _state: self._enter(),
                    on_problem=lambda _sentence: self._enter(),
                )
            )

    @property
    def pushes(self) -> int:
        """Messages that something changed."""
        return sum(follower.pushes for follower in self._followers)

    @property
    def resyncs(self) -> int:
        """Readings of everything without one."""
        return sum(follower.resyncs for follower in self._followers)

    async def wait_for_first_attempt(self, at_most_s: float) -> None:
        """Waits until everything was read, or it was found that it can't be."""
        await asyncio.gather(*(follower.wait_for_first_attempt(at_most_s) for follower in self._followers))

    def age_s(self) -> float:
        """Returns the time since the table was last known to agree with Redis, seconds; infinity if it never was."""
        return max(follower.age_s() for follower in self._followers)

    async def learn(self, stream_names: Collection[str]) -> None:
        """Makes the table watch these streams, in bounded time. It never fails."""
        await self._followers[0].learn(stream_names)

    async def run(self) -> None:
        """Follows until cancelled."""
        tasks = [asyncio.create_task(follower.run()) for follower in self._followers]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _record_stale(self, number: int, stale: bool) -> None:
        self._stale[number] = stale
        self._set_stale(any(self._stale))

    def _enter(self) -> None:
        state = max((follower.state for follower in self._followers), key=_BEST_FIRST.index)
        failing = [follower for follower in self._followers if follower.problem is not None]
        worst = next(
            (follower for follower in failing if not follower.state.is_reachable), failing[0] if failing else None
        )
        if state is RedisState.AWAY and worst is None:
            return  # one of them hasn't tried yet
        sentence = worst.problem_sentence if worst else ""
        self._record(state, worst.problem if worst else None, sentence, stale=any(self._stale))
