"""One link to each server of Redis that holds a slot."""

import asyncio
import contextlib
import logging
from typing import Final

from process.backoff import Backoff
from process.redis_url import Address
from sidecar.connections.errors import RedisServerError
from sidecar.connections.link import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, Link
from sidecar.connections.servers import RedisServers

logger = logging.getLogger(__name__)

REFRESH_EVERY_S: Final = 30.0
"""Sentinels and clusters are asked for the servers at least so often, and at once when a server fails."""


class Links:
    """Links to all servers, as many as there are.

    Args:
        servers: Where Redis is.
        in_time_s: A server that takes longer than this to answer is too slow to wait for, seconds.
    """

    def __init__(self, servers: RedisServers, in_time_s: float) -> None:
        self.servers = servers
        self.in_time_s = in_time_s
        self.reached = asyncio.Event()
        """Set once all servers answered in time at the same time."""
        self._links: dict[Address, Link] = {}
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        self._refresh_now = asyncio.Event()
        self._reported_failure = False

    def holding(self, slot: int) -> Link | None:
        """Returns the link to the server that holds the slot; None if that is unknown."""
        address = self.servers.address(slot)
        return self._links.get(address) if address else None

    def to(self, address: Address) -> Link:
        """Returns the link to this server, which begins to connect if it is new."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link(self.servers, address, self.in_time_s, self.refresh_soon, self._answered)
            self._tasks[address] = asyncio.create_task(link.run(), name=f"redis-link {address}")
        return link

    def follow_move(self, slot: int, owner: Address) -> Link:
        """Records that a server named another one as the owner of the slot; returns the link to that one."""
        self.servers.record_owner(slot, owner)
        self.refresh_soon()
        return self.to(owner)

    @property
    def all_in_time(self) -> bool:
        """Whether every server answers in time."""
        return bool(self._links) and all(link.in_time for link in self._links.values())

    def refresh_soon(self) -> None:
        """Makes :meth:`run` ask which server holds each slot."""
        self._refresh_now.set()

    async def run(self) -> None:
        """Keeps the links to the servers that hold a slot, until cancelled."""
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        try:
            while True:
                self._refresh_now.clear()
                if await self._refresh():
                    backoff.reset()
                else:
                    self._refresh_now.set()
                await self._reconcile()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_EVERY_S):
                        await self._refresh_now.wait()
                # A server that is down reports each failed attempt; the Sentinels or nodes aren't asked as often.
                await asyncio.sleep(backoff.next())
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self) -> bool:
        """Asks which server holds each slot; returns whether there was an answer. Logs the first failure of several."""
        try:
            await self.servers.refresh()
        except RedisServerError as error:
            level = logging.DEBUG if self._reported_failure else logging.WARNING
            logger.log(level, error.summary, extra=error.fields())
        except Exception:
            logger.exception("locating the servers of Redis failed unexpectedly")
        else:
            self._reported_failure = False
            return True
        self._reported_failure = True
        return False

    def _answered(self) -> None:
        if self.all_in_time:
            self.reached.set()

    async def _reconcile(self) -> None:
        """Opens the links that are missing, and closes those to servers that hold no slot any more."""
        holders = self.servers.addresses()
        for address in holders:
            self.to(address)
        for address in self._links.keys() - holders:
            del self._links[address]
            task = self._tasks.pop(address)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
