"""Fleet scope put together: the fleet's decisions, and what keeps them in touch with Redis and the other replicas."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from handcounter.pacing.schedule import Pacing, Schedule
from sidecar.connections.links import Links
from sidecar.connections.servers import RedisServers
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.claim_feed import ClaimFeed
from sidecar.fleet.claim_queue import ClaimQueue
from sidecar.fleet.fleet import Fleet, Frame, Verdict
from sidecar.fleet.heartbeat import Heartbeat

CLAIM_WAIT_S: Final = 0.015
"""How long a claim may take: with it, a decision takes less than 20 ms."""


class FleetScope:
    """Decides frames by schedules that all replicas share."""

    def __init__(
        self,
        servers: RedisServers,
        leases: LeaseBook,
        *,
        pacing: Pacing = Pacing.GCRA,
        replicas: int = 1,
        claim_wait_s: float = CLAIM_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes the arguments of :class:`Fleet`, where Redis is and how long to wait for it. Connects to nothing yet."""
        self._fleet = Fleet(clock, leases, pacing=pacing, replicas=replicas)
        self._links = Links(servers, claim_wait_s)
        self._claims = ClaimQueue(self._links, pacing, self._fleet.answered)
        self._feed = ClaimFeed(servers, self._fleet.heard, self._fleet.listening)
        # A replica that starts anew is another one: its predecessor's heartbeat may still count.
        identity = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._heartbeat = Heartbeat(self._links, identity, self._fleet.counted, replicas)

    async def decide(self, frames: Sequence[Frame]) -> list[Verdict]:
        """Decides frames in their order, hardly later than the claim may take, however Redis is doing."""
        return await self._fleet.decide(frames, self._claims)

    def forget(self, stream_name: str) -> None:
        """Drops what is known of a stream; Redis still knows."""
        self._fleet.forget(stream_name)

    def schedule(self, stream_name: str) -> Schedule | None:
        """The state of a stream as far as is known; None if nothing is."""
        return self._fleet.schedule(stream_name)

    def certain(self, stream_name: str, fps: float) -> Schedule | None:
        """The state of a stream if what it denies at this fps is certain to be denied until it is said to have changed."""
        return self._fleet.certain(stream_name, fps)

    async def wait_until_in_touch(self, at_most_s: float) -> None:
        """Waits for Redis, so that the first frames after a start are claimed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._links.reached.wait()

    @property
    def in_touch(self) -> bool:
        """Whether every server of Redis answers in time."""
        return self._links.all_in_time

    @property
    def replicas(self) -> int:
        """How many replicas share the limits, as far as is known."""
        return self._fleet.replicas

    @property
    def alone_count(self) -> int:
        """Frames decided without Redis so far."""
        return self._fleet.alone_count

    @property
    def call_count(self) -> int:
        """Calls of the claim script so far."""
        return self._claims.call_count

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps in touch for the length of an async with block; says goodbye to the fleet at its end."""
        beat = asyncio.create_task(self._heartbeat.run(), name="heartbeat")
        tasks = [
            asyncio.create_task(self._links.run(), name="redis-links"),
            asyncio.create_task(self._feed.run(), name="claim-feed"),
        ]
        try:
            yield
        finally:
            await _cancelled(beat)
            await self._heartbeat.stop()
            await _cancelled(*tasks)


async def _cancelled(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
