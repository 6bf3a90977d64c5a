"""Hears of the states that other replicas' claims change, so that what is certain to be denied costs no claim."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from redis.exceptions import RedisError, ResponseError

from sidecar.connections.link import DEAD_AFTER_S, LONGEST_BACKOFF_S, PING_EVERY_S, SHORTEST_BACKOFF_S
from sidecar.connections.servers import AnyConnection, RedisServers
from sidecar.fleet.claims import State, channel, unpacked_changes

logger = logging.getLogger(__name__)


class ClaimFeed:
    """Listens to the claims' channel.

    A message is lost only together with the connection (in a cluster, messages between its nodes may be lost too), so
    the listener is told of gaps instead of states being confirmed again and again.
    """

    def __init__(
        self,
        servers: RedisServers,
        on_change: Callable[[str, State], None],
        on_gap: Callable[[bool], None],
    ) -> None:
        """Calls on_change for each changed stream, and on_gap with whether it listens when that changes."""
        self._servers = servers
        self._on_change = on_change
        self._on_gap = on_gap
        self._channel = channel(servers.url.db)

    async def run(self) -> None:
        """Listens until cancelled. Whatever goes wrong, another connection is tried."""
        backoff_s = SHORTEST_BACKOFF_S
        while True:
            try:
                # In a cluster any server hears what is published at any other; so the channel's name does for a key.
                connection = await self._servers.connect_to(self._channel)
                try:
                    await connection.send_command("SUBSCRIBE", self._channel)
                    async with asyncio.timeout(DEAD_AFTER_S):
                        await connection.read_response()
                    self._on_gap(True)
                    backoff_s = SHORTEST_BACKOFF_S
                    await self._listen(connection)
                finally:
                    self._on_gap(False)
                    with contextlib.suppress(RedisError, OSError):
                        await connection.disconnect(nowait=True)
            except Exception as error:
                level = logging.WARNING if backoff_s == SHORTEST_BACKOFF_S else logging.DEBUG
                logger.log(level, "the claims of other replicas aren't heard", extra={"error": str(error)})
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    async def _listen(self, connection: AnyConnection) -> None:
        pinged = False
        while True:
            # A time-out of read_response leaves what has arrived in its buffer, so nothing is lost.
            message = await connection.read_response(timeout=PING_EVERY_S)
            if message is None:
                if pinged:
                    raise ResponseError("no answer to a ping")
                await connection.send_command("PING")
                pinged = True
                continue
            pinged = False
            if message[0] == b"message":
                self._heard(message[2])

    def _heard(self, message: bytes) -> None:
        try:
            for stream_name, state in unpacked_changes(message):
                self._on_change(stream_name, state)
        except ValueError as error:
            logger.warning("a foreign message on the claims' channel", extra={"error": str(error)})
