"""Several followers as one: a cluster has the limits, the patterns and the boosts on nodes of their own."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection

import pytest
from support.waiting import until

from sidecar.connections.errors import Problem
from sidecar.limits.cluster_follower import ClusterFollower
from sidecar.limits.following import Follower, RedisState
from sidecar.limits.table import FpsTable


class Part:
    """A follower that does what the test says."""

    def __init__(
        self,
        *,
        set_stale: Callable[[bool], None],
        on_state: Callable[[RedisState], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self.state, self.problem, self.problem_sentence = RedisState.AWAY, None, ""
        self.pushes, self.resyncs, self.age = 1, 2, math.inf
        self.learned: list[str] = []
        self.running = False
        self._set_stale, self._on_state, self._on_problem = set_stale, on_state, on_problem

    def enter(self, state: RedisState, problem: Problem | None = None, sentence: str = "", *, stale: bool) -> None:
        self.state, self.problem, self.problem_sentence = state, problem, sentence
        self._set_stale(stale)
        self._on_state(state)
        self._on_problem(sentence)

    async def wait_for_first_attempt(self, at_most_s: float) -> None:
        self.learned.append(f"waited {at_most_s}")

    def age_s(self) -> float:
        return self.age

    async def learn(self, stream_names: Collection[str]) -> None:
        self.learned += stream_names

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False


class Whole:
    """Three parts, and what was reported of all of them."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.table = FpsTable(1.0, lambda _field, _value: None, clock=lambda: 0.0, wall_clock=lambda: 0.0)
        self.states: list[RedisState] = []
        self.problems: list[str] = []

        def make(**callbacks: object) -> Follower:
            self.parts.append(Part(**callbacks))  # type: ignore[arg-type]
            return self.parts[-1]

        self.follower = ClusterFollower(
            self.table,
            [make] * 3,
            on_state=self.states.append,
            on_problem=self.problems.append,
        )


@pytest.fixture
def whole() -> Whole:
    """Three parts that have read nothing yet."""
    return Whole()


def test_it_is_as_good_as_its_worst_part(whole: Whole) -> None:
    """Reachable once all are; polled if one is; the problem of one that isn't reachable comes first."""
    for part in whole.parts:
        assert (whole.follower.state, whole.table.stale) == (RedisState.AWAY, True)
        part.enter(RedisState.TRACKING, stale=False)
    assert whole.states == [RedisState.TRACKING]  # nothing was wrong before all had tried
    assert not whole.table.stale
    whole.parts[1].enter(RedisState.POLLING, Problem.NOPERM, "no permission", stale=False)
    assert (whole.follower.state, whole.follower.problem) == (RedisState.POLLING, Problem.NOPERM)
    whole.parts[2].enter(RedisState.AWAY, Problem.UNREACHABLE, "unreachable", stale=True)
    assert (whole.follower.state, whole.follower.problem) == (RedisState.AWAY, Problem.UNREACHABLE)
    assert whole.table.stale
    whole.parts[2].enter(RedisState.TRACKING, stale=False)
    whole.parts[1].enter(RedisState.TRACKING, stale=False)
    assert whole.problems == ["", "no permission", "unreachable", "no permission", ""]
    assert not whole.table.stale


async def test_the_first_one_reads_the_streams(whole: Whole) -> None:
    """All are waited for at the start; counts are added up, and the oldest agreement counts."""
    await whole.follower.wait_for_first_attempt(3.0)
    await whole.follower.learn(["cam1"])
    assert [part.learned for part in whole.parts] == [["waited 3.0", "cam1"], ["waited 3.0"], ["waited 3.0"]]
    assert (whole.follower.pushes, whole.follower.resyncs) == (3, 6)
    for number, part in enumerate(whole.parts):
        part.age = float(number)
    assert whole.follower.age_s() == 2.0


async def test_all_end_together(whole: Whole) -> None:
    """When it is cancelled."""
    task = asyncio.create_task(whole.follower.run())
    await until(lambda: all(part.running for part in whole.parts))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not any(part.running for part in whole.parts)
