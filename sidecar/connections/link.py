"""Pipelined connections to the servers of Redis, kept up, that know whether they are answered in time."""

import asyncio
import collections
import contextlib
import logging
import math
import random
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import AskError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from process.redis_url import Address
from sidecar.connections.servers import AnyConnection, RedisServers

logger = logging.getLogger(__name__)

DEAD_AFTER_S = 1.5
"""A server that hasn't answered for so long is given up, and connected to anew."""

PING_EVERY_S = 1.0
PROBE_EVERY_S = 0.1
"""How often a server is asked whether it is in time again, after it wasn't."""

SETTLED_AFTER_S = 0.5
"""A connection that breaks sooner was none: the pause before the next one goes on growing, and nothing is logged."""

SHORTEST_BACKOFF_S = 0.02
LONGEST_BACKOFF_S = 0.5

REFRESH_EVERY_S = 30.0
"""Sentinels and clusters are asked who holds what at least so often; at once when a server fails."""


_ASKING = hiredis.pack_command(("ASKING",))


class Link:
    """One connection to one server. Commands are sent as they come, and answered in their order."""

    def __init__(
        self,
        servers: RedisServers,
        address: Address,
        in_time_s: float,
        on_failure: Callable[[], None],
        on_answer: Callable[[], None],
    ) -> None:
        """Calls on_failure when the server can't be reached or drops the connection, on_answer when a ping is answered."""
        self.address = address
        self.in_time = False
        """Whether the server answers in time, as far as is known: if not, don't wait for it."""
        self._servers = servers
        self._in_time_s = in_time_s
        self._on_failure = on_failure
        self._on_answer = on_answer
        self._connection: AnyConnection | None = None
        self._waiting: collections.deque[asyncio.Future[Any]] = collections.deque()
        self._sending = asyncio.Lock()
        self._probe_now = asyncio.Event()
        self._connected_at = 0.0
        self._backoff_s = SHORTEST_BACKOFF_S
        self._reported_up: bool | None = None

    def was_late(self) -> None:
        """Reports that an answer wasn't there in time: nobody shall wait for the server until a probe is answered."""
        self.in_time = False
        self._probe_now.set()

    async def call(self, *command: bytes | str | float, asking: bool = False) -> Any:
        """Sends a command, after ASKING if so told; gives its reply or raises RedisError."""
        async with self._sending:
            connection = self._connection
            if connection is None:
                raise RedisConnectionError(f"not connected to {self.address}")
            if asking:
                self._waiting.append(asyncio.get_running_loop().create_future())
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._waiting.append(answer)
            packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stubs know of one argument only
            await connection.send_packed_command([_ASKING, packed] if asking else [packed])
        return await answer

    async def run(self) -> None:
        """Keeps the connection up until cancelled. Whatever goes wrong, another connection is tried."""
        while True:
            try:
                connection = await self._servers.connect(self.address)
            except Exception as error:
                await self._failed(error)
                continue
            self._connection = connection
            self._connected_at = asyncio.get_running_loop().time()
            # No TaskGroup: in Python 3.11 it forgets a cancellation that comes while it aborts.
            works = [asyncio.create_task(self._read(connection)), asyncio.create_task(self._ping())]
            try:
                (ended, *_), _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._drop()
                for work in works:
                    work.cancel()
                try:
                    await asyncio.gather(*works, return_exceptions=True)
                finally:
                    with contextlib.suppress(RedisError, OSError):
                        await connection.disconnect(nowait=True)
            await self._failed(ended.exception())

    async def _failed(self, error: BaseException | None) -> None:
        level = logging.WARNING if self._reported_up is not False else logging.DEBUG
        logger.log(level, "a server of Redis is away", extra={"address": str(self.address), "error": str(error)})
        self._reported_up = False
        if not isinstance(error, RedisError | OSError):
            logger.error("a connection to Redis failed in an unexpected way", exc_info=error)
        self._on_failure()
        await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.0))
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)

    def _drop(self) -> None:
        self._connection = None
        self.in_time = False
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(RedisConnectionError(f"the connection to {self.address} was lost"))
                # ASKING's answer is awaited by nobody.
                answer.exception()

    async def _read(self, connection: AnyConnection) -> None:
        while True:
            try:
                reply = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            except ResponseError as error:
                reply = error
            answer = self._waiting.popleft()
            if answer.done():
                pass
            elif isinstance(reply, Exception):
                answer.set_exception(reply)
                answer.exception()
            else:
                answer.set_result(reply)
            if isinstance(reply, ReadOnlyError):
                # A master that became a replica keeps its connections. Where it has but one address, a new one leads to
                # the new master; else those who promoted it are asked.
                raise reply

    async def _ping(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._probe_now.clear()
            began = clock()
            async with asyncio.timeout(DEAD_AFTER_S):
                await self.call("PING")
            # One late answer to a ping may be a pause of this process; whoever waits for the server finds out.
            self.in_time = self.in_time or clock() - began <= self._in_time_s
            if clock() - self._connected_at >= SETTLED_AFTER_S:
                self._backoff_s = SHORTEST_BACKOFF_S
                if not self._reported_up:
                    logger.info("a server of Redis answers", extra={"address": str(self.address)})
                    self._reported_up = True
            self._on_answer()
            if not self.in_time:
                await asyncio.sleep(PROBE_EVERY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY_S):
                    await self._probe_now.wait()


def redirection(error: AskError, link: Link) -> Address:
    """Where a redirection leads; a server that doesn't know its own host means the one that answered."""
    return Address(error.host or link.address.host, error.port)


class Links:
    """One link to each server that holds something."""

    def __init__(self, servers: RedisServers, in_time_s: float) -> None:
        """A server that takes longer than in_time_s to answer is too slow to wait for."""
        self.servers = servers
        self.in_time_s = in_time_s
        self.reached = asyncio.Event()
        """Set once every server answered in time at the same time."""
        self._links: dict[Address, Link] = {}
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        self._refresh_now = asyncio.Event()

    def holding(self, slot: int) -> Link | None:
        """The link to the server that holds the slot; None if that is unknown."""
        address = self.servers.address(slot)
        return self._links.get(address) if address else None

    def to(self, address: Address) -> Link:
        """The link to this server, which begins to connect if it is new."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link(self.servers, address, self.in_time_s, self.refresh_soon, self._answered)
            self._tasks[address] = asyncio.create_task(link.run(), name=f"redis-link {address}")
        return link

    def moved(self, slot: int, error: AskError, link: Link) -> Link:
        """Takes note of a server's word that another one holds the slot; gives the link to that one."""
        address = redirection(error, link)
        self.servers.moved(slot, address)
        self.refresh_soon()
        return self.to(address)

    @property
    def all_in_time(self) -> bool:
        """Whether every server answers in time."""
        return bool(self._links) and all(link.in_time for link in self._links.values())

    def refresh_soon(self) -> None:
        """Makes :meth:`run` ask who holds what."""
        self._refresh_now.set()

    async def run(self) -> None:
        """Keeps the links to the servers that hold something, until cancelled."""
        backoff_s = SHORTEST_BACKOFF_S
        try:
            while True:
                self._refresh_now.clear()
                try:
                    await self.servers.refresh()
                    backoff_s = SHORTEST_BACKOFF_S
                except Exception as error:
                    level = logging.WARNING if backoff_s == SHORTEST_BACKOFF_S else logging.DEBUG
                    logger.log(level, "nobody tells where Redis is", extra={"error": str(error)})
                    self._refresh_now.set()
                await self._reconcile()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_EVERY_S):
                        await self._refresh_now.wait()
                # A server that is down reports each failed attempt; those who know the others aren't asked as often.
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _answered(self) -> None:
        if self.all_in_time:
            self.reached.set()

    async def _reconcile(self) -> None:
        wanted = self.servers.addresses()
        for address in wanted:
            self.to(address)
        for address in self._links.keys() - wanted:
            del self._links[address]
            task = self._tasks.pop(address)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
