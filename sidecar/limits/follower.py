"""Keeps the fps table in step with the hash in Redis.

One task, one connection. The server pushes that the hash changed, not what; so a change makes the table *dirty*, and
the task reads the watched streams, a chunk at a time, so that the event loop never stalls for long. Dirty is cleared
before the reading begins, so a change in the middle of it leads to another one. Changes are coalesced for 2 ms; when
reading takes long because very many streams are watched, the pauses grow with it. A slow resync covers what a push can't
tell (SWAPDB), and a heartbeat notices a server that hangs.

Where the server refuses to push, the task polls. Where it is away, the table stays as it is.

A stream's first frame waits for the stream's first reading: at most 50 ms, and not at all while Redis is known to be
away or hasn't answered another first frame in time. So an outage costs one wait at most, and no decision after it.
"""

import asyncio
import contextlib
import enum
import functools
import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from sidecar.connections.push import ConnectionLostError, PushConnection, RefusedError
from sidecar.connections.servers import RedisServers
from sidecar.limits.hash import FpsHash, NoHashError
from sidecar.limits.table import FpsTable
from sidecar.limits.values import WILDCARD_FIELD

logger = logging.getLogger(__name__)

FIRST_READING_S: Final = 0.05
"""How long a stream's first frame waits for the stream's value."""

COALESCE_S: Final = 0.002
"""Changes within this time lead to one reading. 20 ms put the p99 at 24 ms at 200 changes a second, 5 ms at 9.7."""

BUSY_FACTOR: Final = 0.5
"""The pause before the next reading is at least this many times as long as the last one took, so that changes without end
leave a third of the time to decisions however many streams are watched. A change waits for two readings and the pause
between them at worst: 4.0 put the p99 with a thousand streams and 200 changes a second at 16 to 32 ms."""

CHUNK: Final = 512
"""Streams at a time: well under 1 ms of the event loop."""

HEARTBEAT_S: Final = 1.0
RESYNC_S: Final = 30.0
POLL_S: Final = 1.0
BACKOFF_S: Final = (0.05, 1.0)
"""First and longest pause between attempts to connect; each is cut by up to half, so that a fleet doesn't march in."""


class RedisState(enum.IntEnum):
    """How the sidecar stands with Redis; the numbers are those of the contract."""

    TRACKING = 1
    POLLING = 2
    AWAY = 3


class FpsFollower:
    """Follows one hash in Redis.

    Args:
        table: is kept up to date.
        servers: where Redis is.
        config_key: the hash.
        on_state: called at each change of the state, with the new one.
        on_read: called at each reading of fields.
        poll_s: the period of polling, seconds.
    """

    def __init__(
        self,
        table: FpsTable,
        servers: RedisServers,
        config_key: str,
        *,
        on_state: Callable[[RedisState], None] = lambda _state: None,
        on_read: Callable[[], None] = lambda: None,
        poll_s: float = POLL_S,
    ) -> None:
        self.state = RedisState.AWAY
        self.pushes = 0
        """Pushes that named the hash, or all keys."""
        self.resyncs = 0
        """Readings of all watched streams that no push led to: after connecting, slow resyncs, polls."""
        self._table = table
        self._servers = servers
        self._config_key = config_key
        self._on_state = on_state
        self._on_read = on_read
        self._poll_s = poll_s
        self._dirty = False
        self._unresponsive = False
        self._wrong_type = False
        self._agreed_at = -math.inf
        self._wake = asyncio.Event()
        self._reads = False
        """Whether there is a connection by which what is wanted will be read; else nothing is kept about it."""
        self._wanted: dict[str, None] = {}
        self._wanted_read: asyncio.Future[None] | None = None
        self._tried = asyncio.Event()
        self._failures = 0
        self._address: tuple[str, int] | None = None  # where a cluster said that the key is
        self._ask_to_push = True
        self._ask_to_scan = True

    async def wait_for_first_attempt(self, at_most_s: float) -> None:
        """Waits until Redis was read or found to be away, so that the first frames after a start are decided well."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._tried.wait()

    def age_s(self) -> float:
        """Seconds since the table was last known to agree with Redis. Infinity: never yet."""
        return time.monotonic() - self._agreed_at

    async def learn(self, stream_names: Collection[str]) -> None:
        """Makes the table watch these streams; waits for their values where that is promising, at most 50 ms."""
        if self._reads:
            self._wanted.update(dict.fromkeys(stream_names))
        if self.state is not RedisState.AWAY and not self._unresponsive:
            if self._wanted_read is None:
                self._wanted_read = asyncio.get_running_loop().create_future()
            self._wake.set()
            _, late = await asyncio.wait((self._wanted_read,), timeout=FIRST_READING_S)
            if late:
                self._unresponsive = True
        self._table.assume(stream_names)

    async def run(self) -> None:
        """Follows until cancelled. Whatever goes wrong, the table stays as it is, and another connection is tried."""
        while True:
            try:
                await self._follow_once()
            except (ConnectionLostError, RefusedError) as error:
                self._address = error.moved_to if isinstance(error, RefusedError) else None
                self._enter(RedisState.AWAY, str(error))
            except Exception as error:
                logger.exception("following the limits failed; trying again")
                self._address = None
                self._enter(RedisState.AWAY, repr(error))
            pause = min(BACKOFF_S[0] * 2.0**self._failures, BACKOFF_S[1])
            self._failures = min(self._failures + 1, 16)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _follow_once(self) -> None:
        """Follows over one connection until it fails."""
        connection = PushConnection(self._servers, self._config_key, self._pushed, self._wake.set)
        try:
            await connection.open(self._address)
            state = await self._start_tracking(connection) if self._ask_to_push else RedisState.POLLING
            # Some proxies hang up on what they refuse; the next connection then does without.
            self._ask_to_push = state is RedisState.TRACKING
            self._reads = True  # those that are watched by now are read with the rest
            self.resyncs += 1
            call = functools.partial(self._call, connection)
            limits = FpsHash(call, self._config_key, self._on_read, may_scan=self._ask_to_scan)
            try:
                await self._read_watched(limits)
            finally:
                self._ask_to_scan = limits.may_scan
            self._ask_to_push = self._ask_to_scan = True
            self._failures = 0
            self._enter(state, "")
            await self._follow(connection, limits)
        finally:
            self._reads = False
            self._wanted.clear()
            await connection.close()

    async def _start_tracking(self, connection: PushConnection) -> RedisState:
        try:
            await connection.track(self._config_key)
        except RefusedError as error:
            if error.code == "LOADING":
                raise
            logger.info("Redis won't push changes, so they are polled", extra={"reason": str(error)})
            return RedisState.POLLING
        return RedisState.TRACKING

    async def _follow(self, connection: PushConnection, limits: FpsHash) -> None:
        period = RESYNC_S if self.state is RedisState.TRACKING else self._poll_s
        read_at = time.monotonic()
        rest_until = read_at
        while True:
            if not (self._wanted or self._dirty):
                with contextlib.suppress(TimeoutError):
                    due_in = max(0.0, read_at + period - time.monotonic())
                    async with asyncio.timeout(min(HEARTBEAT_S, due_in)):
                        await self._wake.wait()
            self._wake.clear()
            was_heard = await self._read_wanted(limits)
            now = time.monotonic()
            if self._dirty and now < rest_until:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest_until - now):
                        await self._wake.wait()
                continue
            if self._dirty or now >= read_at + period:
                if self._dirty:
                    await asyncio.sleep(COALESCE_S)
                else:
                    self.resyncs += 1
                read_at = time.monotonic()
                await self._read_watched(limits)
                ended = time.monotonic()
                rest_until = ended + BUSY_FACTOR * (ended - read_at) - COALESCE_S  # which comes after the rest
            elif not was_heard:
                await self._call(connection, "PING")
            if not self._dirty and self.state is RedisState.TRACKING:
                self._agreed_at = time.monotonic()

    async def _read_watched(self, limits: FpsHash) -> None:
        self._dirty = False
        watched = self._table.watched
        names = [WILDCARD_FIELD, *watched]
        try:
            whole = await limits.whole()
            for start in range(0, len(names), CHUNK):
                chunk = names[start : start + CHUNK]
                if whole is None:
                    values = await limits.fields(chunk)
                else:
                    # Older than what a first frame has read since, if that changed; then the table is dirty again.
                    values = [whole.get(name) for name in chunk]
                    await asyncio.sleep(0)
                if start == 0:
                    self._table.store_wildcard(values[0])
                    chunk, values = chunk[1:], values[1:]
                # Those that were forgotten or fell asleep while Redis answered stay so.
                pairs = [pair for pair in zip(chunk, values, strict=True) if pair[0] in watched]
                self._table.store((name for name, _ in pairs), (value for _, value in pairs))
                await self._read_wanted(limits)
            self._wrong_type = False
        except NoHashError:
            self._table.clear()
            if not self._wrong_type:
                logger.warning("the config key is no hash, so no limits can be read", extra={"key": self._config_key})
            self._wrong_type = True
        if not self._dirty:
            self._agreed_at = time.monotonic()

    async def _read_wanted(self, limits: FpsHash) -> bool:
        """Reads the streams that first frames wait for; whether there were any."""
        if not self._wanted:
            return False
        wanted, self._wanted = self._wanted, {}
        read, self._wanted_read = self._wanted_read, None
        try:
            names = iter(wanted)
            while chunk := list(itertools.islice(names, CHUNK)):
                values: list[bytes | None] = [None] * len(chunk)
                with contextlib.suppress(NoHashError):  # the next reading says so
                    values = await limits.fields(chunk)
                self._table.store(chunk, values)
        finally:
            if read is not None:
                read.set_result(None)
        return True

    async def _call(self, connection: PushConnection, *command: str) -> Any:
        reply = await connection.call(*command)
        self._unresponsive = False
        return reply

    def _pushed(self, keys: list[bytes] | None) -> None:
        if keys is None or self._config_key.encode() in keys:
            self.pushes += 1
            self._dirty = True
            self._wake.set()

    def _enter(self, state: RedisState, reason: str) -> None:
        changed = state is not self.state or not self._tried.is_set()
        self.state = state
        self._table.stale = state is RedisState.AWAY
        self._tried.set()
        if state is RedisState.AWAY and self._wanted_read is not None:
            self._wanted_read.set_result(None)
            self._wanted_read = None
        if not changed:
            return
        if state is RedisState.AWAY:
            logger.warning("Redis is away; the last known limits stay in force", extra={"reason": reason})
        else:
            logger.info("following the limits in Redis", extra={"state": state.name, "key": self._config_key})
        self._on_state(state)
