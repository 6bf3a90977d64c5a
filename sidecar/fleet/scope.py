"""Fleet scope put together: the fleet's decisions, and what connects them to Redis and the other replicas."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from handcounter.pacing.schedule import Pacing, Schedule
from sidecar.connections.links import Links
from sidecar.connections.servers import RedisServers
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claim_feed import ClaimFeed
from sidecar.fleet.claim_problems import ClaimProblems
from sidecar.fleet.claim_queue import ClaimQueue
from sidecar.fleet.fleet import Fleet, Frame, Verdict
from sidecar.fleet.heartbeat import Heartbeat

CLAIM_WAIT_S: Final = 0.015
"""How long a claim is waited for. It keeps decisions below 20 ms."""


class FleetScope:
    """Decides frames by schedules that all replicas share. It connects to Redis only while it is ``running``.

    Args:
        servers: where Redis is.
        leases: see :class:`Fleet`, as for the next two and the clock.
        pacing: how a slot advances.
        replicas: how many replicas there are until heartbeats count them.
        claim_wait_s: how long a claim is waited for, seconds.
        on_problem: called with why Redis rejects claims and what to do about it, whenever that changes; empty if it doesn't.
        clock: real time, seconds by a monotonic clock.
    """

    def __init__(
        self,
        servers: RedisServers,
        leases: LeaseBook,
        *,
        pacing: Pacing = Pacing.GCRA,
        replicas: int = 1,
        claim_wait_s: float = CLAIM_WAIT_S,
        on_problem: Callable[[str], None] = lambda _sentence: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = Fleet(clock, leases, pacing=pacing, replicas=replicas)
        self._links = Links(servers, claim_wait_s)
        self._problems = ClaimProblems(on_problem)
        self._claims = ClaimQueue(self._links, pacing, self._problems)
        self._feed = ClaimFeed(servers, self._fleet.record_change, self._fleet.set_listening)
        # A replica that restarts is another replica: its predecessor's heartbeat may still count.
        identity = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._heartbeat = Heartbeat(self._links, identity, self._fleet.set_replicas, replicas)

    async def decide(self, frames: Sequence[Frame]) -> list[Verdict]:
        """Decides frames in their order. It takes little longer than a claim may take, whatever the state of Redis."""
        return await self._fleet.decide(frames, self._claims)

    def forget(self, stream_name: str) -> None:
        """Drops what this replica knows of a stream; Redis keeps its state."""
        self._fleet.forget(stream_name)

    def schedule(self, stream_name: str) -> Schedule | None:
        """Returns the state of a stream as far as it is known; None if nothing is known."""
        return self._fleet.schedule(stream_name)

    def certain_schedule(self, stream_name: str, fps: float) -> Schedule | None:
        """Returns the state of a stream if all that it denies at this fps is certain to be denied until leases are revoked."""
        return self._fleet.certain_schedule(stream_name, fps)

    async def wait_until_reachable(self, at_most_s: float) -> None:
        """Waits for Redis, so that the first frames after a start are claimed. Returns after at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._links.reached.wait()

    @property
    def in_time(self) -> bool:
        """Whether every server of Redis answers in time."""
        return self._links.all_in_time

    @property
    def replicas(self) -> int:
        """How many replicas share the limits, as far as is known."""
        return self._fleet.replicas

    @property
    def without_redis_count(self) -> int:
        """Frames decided without Redis so far."""
        return self._fleet.without_redis_count

    @property
    def problem_sentence(self) -> str:
        """Why Redis rejects claims and what to do about it, in one line; empty if it doesn't."""
        return self._problems.sentence

    @property
    def rejected(self) -> Mapping[str, int]:
        """Claims that Redis rejected so far, by the first word of its error."""
        return self._problems.rejected

    @property
    def call_count(self) -> int:
        """Calls of the claim script so far."""
        return self._claims.call_count

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Stays connected while an async with block runs, and leaves the fleet at its end."""
        heartbeat = asyncio.create_task(self._heartbeat.run(), name="heartbeat")
        tasks = [
            asyncio.create_task(self._links.run(), name="redis-links"),
            asyncio.create_task(self._feed.run(), name="claim-feed"),
        ]
        try:
            yield
        finally:
            await _cancel(heartbeat)
            await self._heartbeat.stop()
            await _cancel(*tasks)


async def _cancel(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
