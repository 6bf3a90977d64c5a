"""Receives the states that other replicas' claims change, so that a frame that is certain to be denied costs no claim."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from process.backoff import Backoff
from sidecar.connections.errors import RedisServerError, UnreachableError
from sidecar.connections.link import DEAD_AFTER_S, FIRST_BACKOFF_S, LONGEST_BACKOFF_S, PING_EVERY_S
from sidecar.connections.servers import RedisServers
from sidecar.connections.wire import Wire
from sidecar.fleet.claims import State, channel, unpacked_changes

logger = logging.getLogger(__name__)


class ClaimFeed:
    """Subscribes to the channel of the claims.

    Messages are lost only together with the connection (in a cluster, messages between its nodes may be lost too). So the feed
    reports gaps, and no state has to be confirmed again and again.

    Args:
        servers: Where Redis is.
        on_change: Is called with each stream whose state was changed, and the new state.
        on_listening: Is called with whether changes are received, whenever that changes.
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
        self._backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)

    async def run(self) -> None:
        """Listens until cancelled, and reconnects after any failure."""
        while True:
            try:
                # Any server of a cluster receives what is published at the others, so the channel's name serves as a key.
                address = await self._servers.holder(self._channel)
                wire = await self._servers.connect(address, on_push=self._receive)
                try:
                    await self._listen(wire)
                finally:
                    self._on_listening(False)
                    await wire.close()
            except RedisServerError as error:
                self._log(error.fields())
            except Exception as error:
                self._log({"reason": repr(error)})
            await asyncio.sleep(self._backoff.next())

    async def _listen(self, wire: Wire) -> None:
        """Listens until the connection is lost or no longer answers, and raises why."""
        await wire.subscribe(self._channel, timeout_s=DEAD_AFTER_S)
        self._on_listening(True)
        self._backoff.reset()
        losing = asyncio.create_task(wire.wait_until_lost())
        try:
            while not losing.done():
                await asyncio.wait((losing,), timeout=PING_EVERY_S)
                if not losing.done():
                    await wire.call("PING", timeout_s=PING_EVERY_S)
        finally:
            losing.cancel()
        raise losing.result() or UnreachableError("the connection was closed")

    def _receive(self, message: list[Any]) -> None:
        try:
            for stream_name, state in unpacked_changes(message[2]):
                self._on_change(stream_name, state)
        except ValueError as error:
            logger.warning("ignored a foreign message on the channel of the claims", extra={"reason": str(error)})

    def _log(self, fields: dict[str, str]) -> None:
        level = logging.DEBUG if self._backoff.failures else logging.WARNING
        logger.log(level, "can't receive the claims of other replicas", extra=fields)
