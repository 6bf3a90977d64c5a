"""Following another sidecar, which is a fake one in this process; tests/integration/test_limits_tree.py has real ones."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from support.waiting import until

from handcounter.client import LimitsWatch
from handcounter.client.testing import FakeSidecar
from handcounter.pacing.limits import FpsSource, Limit
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.connections.errors import Problem
from sidecar.limits import sidecar_follower
from sidecar.limits.following import Follower, RedisState
from sidecar.limits.layers import LimitInForce
from sidecar.limits.sidecar_follower import SidecarFollower
from sidecar.limits.table import FpsTable


@pytest.fixture
def above(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSidecar]:
    """The other sidecar; first frames wait for it, however busy the machine is."""
    monkeypatch.setattr(sidecar_follower, "FIRST_READING_S", 60.0)
    with FakeSidecar(fps={"cam1": 4.0}, default_fps=7.0) as sidecar:
        yield sidecar


class Following:
    """A follower that runs."""

    def __init__(self, address: str, source_fps: Callable[[str], float] = lambda _name: 0.0) -> None:
        self.states: list[RedisState] = []
        self.problems: list[str] = []
        self.table = FpsTable(1.0, lambda _field, _value: None, clock=lambda: 0.0, wall_clock=time.time)
        self.follower = SidecarFollower(
            self.table,
            address,
            lambda on_told: LimitsWatch(address, on_told=on_told),
            source_fps,
            on_state=self.states.append,
            on_problem=self.problems.append,
        )
        follower: Follower = self.follower
        assert follower.age_s() == math.inf

    async def learn(self, *names: str) -> list[Limit]:
        """Learns the limits of streams."""
        await self.follower.learn(names)
        return [self.table.limit(name) for name in names]


@contextlib.asynccontextmanager
async def following(address: str, source_fps: Callable[[str], float] = lambda _name: 0.0) -> AsyncIterator[Following]:
    """Yields a follower that has tried to reach the other sidecar."""
    running = Following(address, source_fps)
    task = asyncio.create_task(running.follower.run())
    try:
        await running.follower.wait_for_first_attempt(60.0)
        yield running
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_limits_of_the_other_sidecar(above: FakeSidecar) -> None:
    """A stream's own limit, and that of all others, which isn't this sidecar's default."""
    async with following(above.address) as here:
        assert (here.states, here.problems) == ([RedisState.TRACKING], [""])
        assert await here.learn("cam1", "cam2") == [Limit(4.0, FpsSource.OVERRIDE), Limit(7.0, FpsSource.DEFAULT)]
        assert (here.table.stale, here.follower.age_s(), here.table.unread) == (False, 0.0, set())
        above.fps["cam1"] = 0.0
        above.tell("cam1")
        await until(lambda: here.table.fps("cam1") == 0.0, "the change")
        assert here.follower.pushes == 2


async def test_limits_that_the_other_sidecar_ceases_to_know_stay(above: FakeSidecar) -> None:
    """They are stale, and it is said whose fault it is."""
    async with following(above.address) as here:
        await here.learn("cam1")
        above.stale = True
        above.tell()
        await until(lambda: here.table.stale, "stale")
        assert here.follower.problem is Problem.OTHER
        assert here.problems[-1] == f"the sidecar at {above.address} can't read the limits (see its log)"
        assert here.follower.age_s() < 60.0
        above.stop()
        await until(lambda: here.follower.problem is Problem.UNREACHABLE, "the loss")
        assert here.problems[-1] == f"the sidecar at {above.address} tells no limits (see the log)"
        assert here.table.fps("cam1") == 4.0
        assert await here.learn("new") == [Limit(1.0, FpsSource.DEFAULT)]  # without waiting
        assert here.table.unread == {"new"}
        above.stale, above.fps["cam1"] = False, 5.0
        above.start()
        await until(lambda: here.table.fps("cam1") == 5.0 and not here.table.unread, "the return")
        assert here.states == [RedisState.TRACKING, RedisState.AWAY, RedisState.TRACKING]
        assert here.problems[-1] == ""


async def test_a_first_frame_waits_once(above: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment; if the other sidecar doesn't answer in time, no later one waits until it has told something."""
    async with following(above.address) as here:
        await here.learn("cam1")
        above.silent = True
        monkeypatch.setattr(sidecar_follower, "FIRST_READING_S", 0.01)
        assert await here.learn("late") == [Limit(1.0, FpsSource.DEFAULT)]
        assert here.table.unread == {"late"}
        monkeypatch.setattr(sidecar_follower, "FIRST_READING_S", 600.0)
        await here.learn("later")
        above.silent = False
        above.fps.update(late=3.0, later=2.0)
        above.tell()
        await until(lambda: [here.table.fps(name) for name in ("late", "later")] == [3.0, 2.0], "both are told")


async def test_rates_of_sources_are_passed_on(above: FakeSidecar) -> None:
    """With the stream, and each change; not of a stream that the other sidecar isn't asked about."""
    rates = {"cam1": 25.0}
    async with following(above.address, lambda name: rates.get(name, 0.0)) as here:
        await here.learn("cam1", "cam2")
        await until(lambda: above.source_fps == {"cam1": 25.0, "cam2": 0.0})
        rates.update(cam1=12.5, cam2=5.0, cam3=9.0)
        for name in rates:
            here.follower.tell_source_fps(name)
        await until(lambda: above.source_fps == {"cam1": 12.5, "cam2": 5.0})


async def test_a_boost_ends_while_the_other_sidecar_is_unreachable(above: FakeSidecar) -> None:
    """What follows it was told with it."""
    end = time.time() + 0.2

    def boosted(name: str) -> pb.StreamLimit:
        after = pb.StreamLimit(fps=2.0, fps_source=pb.FPS_SOURCE_PATTERN, pattern="cam*")
        source = pb.FPS_SOURCE_BOOST
        return pb.StreamLimit(stream_name=name, fps=9.0, fps_source=source, boost_until=end, after_boost=after)

    above.stream_limit = boosted  # type: ignore[method-assign]
    async with following(above.address) as here:
        await here.follower.learn(["cam1"])
        assert here.table.limit_in_force("cam1").after_boost == LimitInForce(2.0, FpsSource.PATTERN, "cam*")
        above.stop()
        await until(lambda: time.time() >= end)
        here.table.end_boosts()
        assert here.table.limit_in_force("cam1") == LimitInForce(2.0, FpsSource.PATTERN, "cam*")
        here.table.put_to_sleep("cam1")
        await here.follower.learn(["cam1"])
        assert here.table.limit_in_force("cam1") == LimitInForce(2.0, FpsSource.PATTERN, "cam*")


async def test_streams_that_are_forgotten_are_dropped(above: FakeSidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other sidecar needn't read them; what it still tells of them is ignored, and they can be learned again."""
    monkeypatch.setattr(sidecar_follower, "DROP_S", 0.01)
    async with following(above.address) as here:
        await here.learn("cam1", "cam2")
        here.table.put_to_sleep("cam1")
        here.table.forget("cam2")
        here.follower._take(["cam2"])
        assert "cam2" not in here.table.watched
        await until(lambda: above.source_fps == {}, "they are dropped")
        above.fps["cam1"] = 9.0
        assert await here.learn("cam1") == [Limit(9.0, FpsSource.OVERRIDE)]


async def test_a_stream_that_was_asleep_needs_no_wait(above: FakeSidecar) -> None:
    """As long as the other sidecar still tells of it."""
    async with following(above.address) as here:
        await here.learn("cam1")
        here.table.put_to_sleep("cam1")
        above.silent = True
        assert await here.learn("cam1") == [Limit(4.0, FpsSource.OVERRIDE)]


async def test_before_it_runs_nothing_waits() -> None:
    """And nothing is known."""
    here = Following("127.0.0.1:1")
    assert await here.learn("cam1") == [Limit(1.0, FpsSource.DEFAULT)]
    here.follower._take(["cam1"])
    assert here.table.unread == {"cam1"}
