"""Counts the replicas of the fleet: each sends a heartbeat to Redis and hears how many do."""

import asyncio
import logging
from collections.abc import Callable

from redis.exceptions import RedisError

from sidecar.claim_queue import Script
from sidecar.claims import HEARTBEAT_SCRIPT, REPLICA_GONE_S, REPLICAS_KEY
from sidecar.redis_link import DEAD_AFTER_S, Links

logger = logging.getLogger(__name__)

HEARTBEAT_EVERY_S = 1.0

GOODBYE_WITHIN_S = 0.5


class Heartbeat:
    """Tells the fleet of this replica."""

    def __init__(self, links: Links, identity: str, on_count: Callable[[int, int], None]) -> None:
        """Calls on_count with the number of replicas and this one's place among them, from 0."""
        self._links = links
        self._identity = identity
        self._on_count = on_count
        self._script = Script(HEARTBEAT_SCRIPT)
        self._slot = links.servers.slot(REPLICAS_KEY)

    async def run(self) -> None:
        """Sends heartbeats until cancelled."""
        while True:
            link = self._links.holding(self._slot)
            if link is not None:
                try:
                    async with asyncio.timeout(DEAD_AFTER_S):
                        count, place = await self._script.call(
                            link, [REPLICAS_KEY], self._identity, str(REPLICA_GONE_S)
                        )
                except (RedisError, OSError) as error:
                    logger.debug("no heartbeat", extra={"error": str(error)})
                else:
                    self._on_count(count, place)
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
        except (RedisError, OSError) as error:
            logger.debug("no goodbye", extra={"error": str(error)})
