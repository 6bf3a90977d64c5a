"""Receives the states that other replicas' claims change, so that a frame that is certain to be denied costs no claim."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from redis.exceptions import RedisError, ResponseError

from process.backoff import Backoff
from sidecar.connections.link import DEAD_AFTER_S, LONGEST_BACKOFF_S, PING_EVERY_S, SHORTEST_BACKOFF_S
from sidecar.connections.servers import AnyConnection, RedisServers
from sidecar.fleet.claims import State, channel, unpacked_changes

logger = logging.getLogger(__name__)


class ClaimFeed:
    """Subscribes to the channel of the claims.

    Messages are lost only together with the connection (in a cluster, messages between its nodes may be lost too). So the feed
    reports gaps, and no state has to be confirmed again and again.

    Args:
        servers: where Redis is.
        on_change: called with each stream whose state was changed, and the new state.
        on_listening: called with whether changes are received, whenever that changes.
    """

    def __init__(
        self,
        servers: RedisServers,
        on_change: Callable[[str, State], None],
        on_listening: Callable[[bool], None],
    ) -> None:
        self._servers = servers
        self._on_change = on_change
        self._on_listening = on_listening
        self._channel = channel(servers.url.db)

    async def run(self) -> None:
        """Listens until cancelled, and reconnects after any failure."""
        backoff = Backoff(SHORTEST_BACKOFF_S, LONGEST_BACKOFF_S)
        while True:
            try:
                # Any server of a cluster receives what is published at the others, so the channel's name serves as a key.
                connection = await self._servers.connect_to(self._channel)
                try:
                    await connection.send_command("SUBSCRIBE", self._channel)
                    async with asyncio.timeout(DEAD_AFTER_S):
                        await connection.read_response()
                    self._on_listening(True)
                    backoff.reset()
                    await self._listen(connection)
                finally:
                    self._on_listening(False)
                    with contextlib.suppress(RedisError, OSError):
                        await connection.disconnect(nowait=True)
            except Exception as error:
                level = logging.WARNING if backoff.failures == 0 else logging.DEBUG
                logger.log(level, "can't receive the claims of other replicas", extra={"reason": str(error)})
            await asyncio.sleep(backoff.next())

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
                self._receive(message[2])

    def _receive(self, message: bytes) -> None:
        try:
            for stream_name, state in unpacked_changes(message):
                self._on_change(stream_name, state)
        except ValueError as error:
            logger.warning("ignored a foreign message on the channel of the claims", extra={"reason": str(error)})
