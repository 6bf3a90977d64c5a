"""Counts the replicas of the fleet: each sends a heartbeat to Redis and hears how many do.

A Redis that was away, lost its data or was replaced hears the replicas one after the other, and tells the first ones too
few. Whoever believed that and then lost Redis again would take too large a share. So more replicas count at once, but
fewer only when nothing else was heard for as long as a silent replica takes to be gone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from sidecar.connections.errors import RedisServerError, RejectedError
from sidecar.connections.link import DEAD_AFTER_S
from sidecar.connections.links import Links
from sidecar.fleet.claim_queue import Script
from sidecar.fleet.claims import HEARTBEAT_SCRIPT, REPLICA_GONE_S, REPLICAS_KEY

logger = logging.getLogger(__name__)

HEARTBEAT_EVERY_S = 1.0

GOODBYE_WITHIN_S = 0.5


class ReplicaCount:
    """How many replicas there are, by all that was heard of late. No I/O.

    Args:
        replicas: how many there are while nothing was heard yet.
    """

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        """How many there are."""
        self._heard: deque[tuple[float, int]] = deque()
        """Real time and count, of what was heard without interruption; the first is what held before."""

    def hear(self, count: int, now: float) -> None:
        """Takes in how many a server counts; now is real time, seconds by a monotonic clock."""
        if not self._heard:
            self._heard.append((now, self.replicas))
        self._heard.append((now, count))
        while self._heard[0][0] <= now - REPLICA_GONE_S:
            self._heard.popleft()
        self.replicas = max(count for _, count in self._heard)

    def interrupt(self) -> None:
        """Takes in that a heartbeat wasn't answered: who counts next may have heard nobody else yet."""
        self._heard.clear()


class Heartbeat:
    """Tells the fleet of this replica."""

    def __init__(self, links: Links, identity: str, on_count: Callable[[int, int], None], replicas: int = 1) -> None:
        """Calls on_count with the number of replicas and this one's place among them, from 0.

        Until one is heard, there are so many replicas as the last argument says.
        """
        self._links = links
        self._identity = identity
        self._on_count = on_count
        self._count = ReplicaCount(replicas)
        self._script = Script(HEARTBEAT_SCRIPT)
        self._slot = links.servers.slot(REPLICAS_KEY)

    async def run(self) -> None:
        """Sends heartbeats until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            link = self._links.holding(self._slot)
            if link is None:
                self._count.interrupt()
            else:
                try:
                    async with asyncio.timeout(DEAD_AFTER_S):
                        count, place = await self._script.call(
                            link, [REPLICAS_KEY], self._identity, str(REPLICA_GONE_S)
                        )
                except (RedisServerError, TimeoutError) as error:
                    logger.debug("no heartbeat", extra={"error": str(error)})
                    self._count.interrupt()
                    if isinstance(error, RejectedError) and error.code == "MOVED" and error.redirect:
                        self._links.follow_move(self._slot, error.redirect)
                else:
                    self._count.hear(count, clock())
                    self._on_count(self._count.replicas, place)
            # Soon after the start, then steadily.
            await asyncio.sleep(HEARTBEAT_EVERY_S if link is not None and link.in_time else HEARTBEAT_EVERY_S / 10)

    async def stop(self) -> None:
        """Says goodbye, so that the others needn't wait for the silence to tell."""
        link = self._links.holding(self._slot)
        if link is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_WITHIN_S):
                await link.call("ZREM", REPLICAS_KEY, self._identity)
        except (RedisServerError, TimeoutError) as error:
            logger.debug("no goodbye", extra={"error": str(error)})
