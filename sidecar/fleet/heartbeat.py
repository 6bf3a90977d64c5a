"""Counts the replicas of the fleet: each sends heartbeats to Redis, which answers how many replicas do.

A Redis that was unreachable, lost its data or was replaced receives the heartbeats one by one, so its first counts are
too low. A replica that believed them and then lost Redis again would take too large a share of the fps. So a higher
count is valid at once, a lower one only after nothing else was counted for as long as a silent replica stays in the
count.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from sidecar.connections.errors import RedisServerError, RejectedError
from sidecar.connections.link import DEAD_AFTER_S
from sidecar.connections.links import Links
from sidecar.fleet.claim_queue import Script
from sidecar.fleet.claims import HEARTBEAT_SCRIPT, REPLICA_GONE_S, REPLICAS_KEY

logger = logging.getLogger(__name__)

HEARTBEAT_EVERY_S: Final = 1.0

LEAVE_TIMEOUT_S: Final = 0.5
"""How long a stopping replica tries to leave the fleet, seconds."""


class ReplicaCount:
    """The number of replicas, by all recent counts. No I/O.

    Args:
        replicas: how many there are until the first count.
    """

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        """How many there are."""
        self._recent: deque[tuple[float, int]] = deque()
        """Real time and count of all answers since the last interruption; the first is the number from before it."""

    def add(self, count: int, now: float) -> None:
        """Adds what a server counts; ``now`` is real time, seconds by a monotonic clock."""
        if not self._recent:
            self._recent.append((now, self.replicas))
        self._recent.append((now, count))
        while self._recent[0][0] <= now - REPLICA_GONE_S:
            self._recent.popleft()
        self.replicas = max(count for _, count in self._recent)

    def interrupt(self) -> None:
        """Records that a heartbeat had no answer: the next server that counts may not have received the others' yet."""
        self._recent.clear()


class Heartbeat:
    """Makes this replica known to the fleet.

    Args:
        links: the connections to Redis.
        identity: of this replica; no other process has the same.
        on_count: called with the number of replicas and the place of this one among them, from 0.
        replicas: how many replicas there are until the first count.
    """

    def __init__(self, links: Links, identity: str, on_count: Callable[[int, int], None], replicas: int = 1) -> None:
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
                    logger.debug("no answer to a heartbeat", extra={"reason": str(error)})
                    self._count.interrupt()
                    if isinstance(error, RejectedError) and error.code == "MOVED" and error.redirect:
                        self._links.follow_move(self._slot, error.redirect)
                else:
                    self._count.add(count, clock())
                    self._on_count(self._count.replicas, place)
            # Soon after the start, then steadily.
            await asyncio.sleep(HEARTBEAT_EVERY_S if link is not None and link.in_time else HEARTBEAT_EVERY_S / 10)

    async def stop(self) -> None:
        """Leaves the fleet at once, so that the others needn't wait until this replica has been silent for long enough."""
        link = self._links.holding(self._slot)
        if link is None:
            return
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await link.call("ZREM", REPLICAS_KEY, self._identity)
        except (RedisServerError, TimeoutError) as error:
            logger.debug("couldn't leave the fleet", extra={"reason": str(error)})
