"""An event loop whose time passes only when everybody waits, and a Redis whose answers take as long as one says.

So what is asserted are the seconds that the program waited for, not those that the machine took.
"""

import asyncio
import contextlib
import selectors
import zlib
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import hiredis
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from process.redis_url import Address, parse_redis_url
from sidecar.connections.errors import UnreachableError
from sidecar.connections.wire import Wire

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Doesn't wait: the loop's time goes on instead."""

    loop: "SimulatedLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # While callbacks are ready nobody waits for files, and nothing here needs them in between.
        events = super().select(0) if timeout != 0.0 else []
        if not events:
            assert timeout is not None, "everybody waits, and for nothing that will happen"
            self.loop.now += max(0.0, timeout)
        return events


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Jumps to whatever is due next."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Simulated seconds."""
        return self.now


def simulate(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in simulated time."""
    with contextlib.closing(SimulatedLoop()) as loop:
        return loop.run_until_complete(work)


class SlowServers:
    """Stands for RedisServers: real answers, after a delay in simulated time.

    Args:
        client: a connection to the server that answers.
        nodes: as a cluster of so many servers would be seen; the one server stands for all.
    """

    def __init__(self, client: redis.Redis, nodes: int = 1) -> None:
        self.url = parse_redis_url("redis://127.0.0.1:1/0")
        self.client = client
        self._delay_s = 0.001
        self.reachable = True
        self.connections: list[SlowConnection] = []
        self._nodes = [Address("127.0.0.1", 1 + number) for number in range(nodes)]

    @property
    def delay_s(self) -> float:
        """How long each answer takes, those in transit too; infinity: none comes."""
        return self._delay_s

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        self._delay_s = seconds
        for connection in self.connections:
            connection.wake()

    async def connect(self, address: Address, **options: Any) -> Wire:
        """A connection to one of the servers."""
        if not self.reachable:
            raise UnreachableError("refused")
        connection = SlowConnection(self)
        self.connections.append(connection)
        return Wire(connection, address, **options)  # type: ignore[arg-type]

    async def holder(self, _: bytes) -> Address:
        """The server that holds a key."""
        return self._nodes[0]

    async def refresh(self) -> None:
        """Nothing changes."""

    def addresses(self) -> set[Address]:
        """Who holds something."""
        return set(self._nodes)

    def address(self, slot: int) -> Address:
        """Who holds this slot."""
        return self._nodes[slot % len(self._nodes)]

    def slot(self, key: bytes | str) -> int:
        """The slot of a key; on one server all have the same."""
        return zlib.crc32(key if isinstance(key, bytes) else key.encode()) if len(self._nodes) > 1 else 0

    def lose(self) -> None:
        """Drops all connections and takes no new ones."""
        self.reachable = False
        for connection in self.connections:
            connection.lose()
        self.connections.clear()


class SlowConnection:
    """Stands for redis-py's connection: its answers are there at once, and arrive later."""

    protocol = 2

    def __init__(self, servers: SlowServers) -> None:
        self._servers = servers
        self._replies: deque[tuple[float, Any]] = deque()
        self._changed = asyncio.Event()
        self._lost = False

    @property
    def is_connected(self) -> bool:
        """Whether it isn't broken."""
        return not self._lost

    async def send_packed_command(self, packed: Iterable[bytes], **_: object) -> None:
        """Sends commands."""
        if self._lost:
            raise RedisConnectionError("lost")
        reader = hiredis.Reader()
        for part in packed:
            reader.feed(part)
        while (command := reader.gets()) is not False:
            self._replies.append((asyncio.get_running_loop().time(), self._reply_to(command)))
        self._changed.set()

    def _reply_to(self, command: list[bytes]) -> Any:
        if command[0] == b"SUBSCRIBE":
            return [b"subscribe", command[1], 1]
        try:
            return self._servers.client.execute_command(*command)
        except redis.ResponseError as error:
            return error

    async def read_response(self, timeout: float | None = None, **_: object) -> Any:  # noqa: ASYNC109
        """The next reply; None when the time is up before."""
        clock = asyncio.get_running_loop().time
        give_up_at = float("inf") if timeout is None else clock() + timeout
        while True:
            if self._lost:
                raise RedisConnectionError("lost")
            there_at = self._replies[0][0] + self._servers.delay_s if self._replies else float("inf")
            if there_at <= clock():
                _, reply = self._replies.popleft()
                if isinstance(reply, Exception):
                    raise reply
                return reply
            if clock() >= give_up_at:
                return None
            self._changed.clear()
            until = min(there_at, give_up_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until if until < float("inf") else None):
                    await self._changed.wait()

    def wake(self) -> None:
        """Lets whoever waits for a reply look again, because the delay has changed."""
        self._changed.set()

    def lose(self) -> None:
        """Breaks it."""
        self._lost = True
        self._changed.set()

    async def disconnect(self, **_: object) -> None:
        """Closes it."""
        self.lose()
