"""One pipelined connection to one server of Redis, kept up, that knows whether the server answers in time."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from process.backoff import Backoff
from process.redis_url import Address
from sidecar.connections.errors import REJECTED_BY_LIVING, RedisServerError, RejectedError, UnreachableError
from sidecar.connections.servers import RedisServers
from sidecar.connections.wire import Wire

logger = logging.getLogger(__name__)

DEAD_AFTER_S: Final = 1.5
"""A server that doesn't answer for so long is given up, and connected to again."""

PING_EVERY_S: Final = 1.0
PROBE_EVERY_S: Final = 0.1
"""How often a server that wasn't in time is asked whether it is again."""

SETTLED_AFTER_S: Final = 0.5
"""A connection that is lost sooner counts as a failed attempt: the backoff goes on growing, and nothing is logged."""

FIRST_BACKOFF_S: Final = 0.02
LONGEST_BACKOFF_S: Final = 0.5


class Link:
    """Commands are sent as they come, and answered in their order.

    Args:
        servers: Opens the connections.
        address: The server.
        in_time_s: A server that takes longer than this to answer is too slow to wait for, seconds.
        on_failure: Is called when the server can't be reached, or the connection is lost.
        on_answer: Is called when a ping is answered.
    """

    def __init__(
        self,
        servers: RedisServers,
        address: Address,
        in_time_s: float,
        on_failure: Callable[[], None],
        on_answer: Callable[[], None],
    ) -> None:
        self.address = address
        self.in_time = False
        """Whether the server answers in time, as far as is known. If not, don't wait for it."""
        self._servers = servers
        self._in_time_s = in_time_s
        self._on_failure = on_failure
        self._on_answer = on_answer
        self._wire: Wire | None = None
        self._probe_now = asyncio.Event()
        self._connected_at = 0.0
        self._backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        self._reported_up: bool | None = None

    def report_late(self) -> None:
        """Reports that an answer didn't come in time: no caller is to wait for the server until a probe is answered."""
        self.in_time = False
        self._probe_now.set()

    async def call(self, *command: bytes | str | float, asking: bool = False) -> Any:
        """Sends a command and returns its answer.

        Args:
            command: The command's words.
            asking: Whether to send ASKING before it.

        Raises:
            UnreachableError: The server isn't connected, or the connection was lost before the answer.
            RejectedError: The answer is an error.
        """
        if self._wire is None:
            raise UnreachableError(f"not connected to {self.address}")
        return await self._wire.call(*command, asking=asking)

    async def run(self) -> None:
        """Keeps the connection up until cancelled. Whatever fails, it connects again."""
        while True:
            try:
                # A master that became a replica keeps its connections. Behind its only address there may be another
                # master by now, which only a new connection reaches; else the Sentinels or nodes are asked again.
                wire = await self._servers.connect(self.address, fatal_code="READONLY")
            except Exception as error:
                await self._failed(error)
            else:
                await self._failed(await self._use(wire))

    async def _use(self, wire: Wire) -> BaseException | None:
        """Uses a connection until it is lost; returns why it was."""
        self._wire = wire
        self._connected_at = asyncio.get_running_loop().time()
        pinging = asyncio.create_task(self._ping(wire))
        losing = asyncio.create_task(wire.wait_until_lost())
        # No TaskGroup: in Python 3.11 it forgets a cancellation that comes while it aborts.
        try:
            await asyncio.wait((pinging, losing), return_when=asyncio.FIRST_COMPLETED)
            return losing.result() if losing.done() else pinging.exception()
        finally:
            self._wire = None
            self.in_time = False
            for task in (pinging, losing):
                task.cancel()
            try:
                await asyncio.gather(pinging, losing, return_exceptions=True)
            finally:
                await wire.close()

    async def _failed(self, error: BaseException | None) -> None:
        fields = {"address": str(self.address)}
        if isinstance(error, RedisServerError):
            level = logging.WARNING if self._reported_up is not False else logging.DEBUG
            logger.log(level, error.summary, extra=fields | error.fields())
        else:
            logger.error("a connection to Redis failed unexpectedly", extra=fields, exc_info=error)
        self._reported_up = False
        self._on_failure()
        await asyncio.sleep(self._backoff.next())

    async def _ping(self, wire: Wire) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._probe_now.clear()
            began = clock()
            try:
                await wire.call("PING", timeout_s=DEAD_AFTER_S)
            except RejectedError as error:
                if error.code not in REJECTED_BY_LIVING:
                    raise
            # One late answer to a ping may be a pause of this process; a caller that waits for the server finds out.
            self.in_time = self.in_time or clock() - began <= self._in_time_s
            if clock() - self._connected_at >= SETTLED_AFTER_S:
                self._backoff.reset()
                if not self._reported_up:
                    logger.info("Redis is reachable", extra={"address": str(self.address)})
                    self._reported_up = True
            self._on_answer()
            if not self.in_time:
                await asyncio.sleep(PROBE_EVERY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY_S):
                    await self._probe_now.wait()
