"""Keeps the fps table in step with the hash in Redis: one task, one connection.

What is read when is decided by the reading plan; this file does it. Watched streams are read a chunk at a time, so that the
event loop never stalls for long. Where the server refuses to push, the task polls. While the limits can't be read, for
whatever reason, the table stays as it is. A server that answers reads is reachable, even if it rejects everything else.

A stream's first frame waits for the stream's first reading: at most 50 ms, and not at all while Redis is known to be
unreachable or hasn't answered another first frame in time. So an outage costs one wait at most, and no decision after it.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from handcounter.pacing.limits import WILDCARD_FIELD
from process.backoff import Backoff
from process.redis_url import Address
from sidecar.connections.errors import Problem, RedisServerError, RejectedError
from sidecar.connections.push import PushConnection
from sidecar.connections.role import RoleCheck
from sidecar.connections.servers import RedisServers
from sidecar.limits.following import Follower, RedisState
from sidecar.limits.hash import FpsHash, NotAHashError
from sidecar.limits.reading_plan import Action, ReadingPlan, Step
from sidecar.limits.small_hashes import SmallHashes
from sidecar.limits.steadiness import Steadiness
from sidecar.limits.table import FpsTable

logger = logging.getLogger(__name__)

FIRST_READING_S: Final = 0.05
"""How long a stream's first frame waits for the stream's value."""

CHUNK: Final = 512
"""Streams that are read at a time: well under 1 ms of the event loop."""

RESYNC_S: Final = 30.0
POLL_S: Final = 1.0
FIRST_BACKOFF_S: Final = 0.05
LONGEST_BACKOFF_S: Final = 1.0


class FpsFollower(Follower):
    """Follows the hash of limits in Redis, and small hashes in the same server.

    Args:
        table: Is kept up to date.
        servers: Where Redis is.
        config_key: The key of the hash; it and all keys that begin with it are tracked.
        small: The small hashes.
        reads_streams: Whether the key is the hash of limits. If not, only the small hashes are read.
        set_stale: Is called with whether the limits can't be read; None: the table is told.
        on_state: Is called at each change of the state, with the new one.
        on_problem: Is called whenever there is another problem with the limits, with a sentence about it; empty for none.
        on_read: Is called at each command that reads fields.
        poll_s: The period of polling, seconds.
    """

    def __init__(
        self,
        table: FpsTable,
        servers: RedisServers,
        config_key: str,
        *,
        small: SmallHashes | None = None,
        reads_streams: bool = True,
        set_stale: Callable[[bool], None] | None = None,
        on_state: Callable[[RedisState], None] = lambda _state: None,
        on_problem: Callable[[str], None] = lambda _sentence: None,
        on_read: Callable[[], None] = lambda: None,
        poll_s: float = POLL_S,
    ) -> None:
        super().__init__(table, on_state, on_problem, set_stale)
        self._servers = servers
        self._config_key = config_key
        self._small = small or SmallHashes()
        self._reads_streams = reads_streams
        self._on_read = on_read
        self._poll_s = poll_s
        self._agreed_at = -math.inf
        self._plan: ReadingPlan | None = None
        """What is read when on the connection; None while there is none, so that nothing is kept about new streams."""
        self._wake = asyncio.Event()
        self._awaited_done: asyncio.Future[None] | None = None
        self._readable = False
        """Whether the limits were read over the connection, which may not count as a recovery yet."""
        self._unresponsive = False
        self._steadiness = Steadiness()
        self._backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        self._redirect: Address | None = None  # where a cluster said that the key is
        self._failures_logged: set[str] = set()
        self._wrong_type = False
        """Whether the key of the limits isn't a hash at present."""
        self._ask_to_push = True
        self._ask_to_scan = True
        self._ask_for_role = True

    def age_s(self) -> float:
        """Returns the time since the table was last known to agree with Redis, seconds; infinity if it never was."""
        return time.monotonic() - self._agreed_at

    async def learn(self, stream_names: Collection[str]) -> None:
        """Makes the table watch these streams. Waits for their values where Redis is likely to answer, at most 50 ms."""
        if self._plan is not None:
            self._plan.await_streams(stream_names)
        if self._readable and not self._unresponsive:
            if self._awaited_done is None:
                self._awaited_done = asyncio.get_running_loop().create_future()
            self._wake.set()
            _, late = await asyncio.wait((self._awaited_done,), timeout=FIRST_READING_S)
            if late:
                self._unresponsive = True
        self._table.assume(stream_names)

    async def run(self) -> None:
        """Follows until cancelled. Whatever fails, the table stays as it is, and another connection is tried."""
        while True:
            try:
                await self._follow_once()
            except RedisServerError as error:
                self._redirect = error.redirect if isinstance(error, RejectedError) and error.code == "MOVED" else None
                self._fail(error)
            except Exception as error:
                self._redirect = None
                self._fail(error)
            await asyncio.sleep(self._backoff.next())

    async def _follow_once(self) -> None:
        """Follows over one connection until it fails."""
        connection = PushConnection(self._servers, self._config_key, self._pushed, self._wake.set)
        try:
            await connection.open(self._redirect)
            call = functools.partial(self._call, connection)
            role = RoleCheck(call, may_ask=self._ask_for_role)
            try:
                await role.check()
            finally:
                self._ask_for_role = role.may_ask
            state = await self._start_tracking(connection) if self._ask_to_push else RedisState.POLLING
            # Some proxies hang up on what they reject; the next connection then does without.
            self._ask_to_push = state is RedisState.TRACKING
            period_s = RESYNC_S if state is RedisState.TRACKING else self._poll_s
            plan = ReadingPlan(time.monotonic(), period_s=period_s, pushed=state is RedisState.TRACKING)
            self._plan = plan  # from here on new streams are read
            limits = FpsHash(call, self._config_key, self._on_read, may_scan=self._ask_to_scan)
            try:
                await self._act(plan.next(time.monotonic()), plan, connection, limits, role)
            finally:
                self._ask_to_scan = limits.may_scan
            self._ask_to_push = self._ask_to_scan = self._ask_for_role = self._readable = True
            counts_from = time.monotonic() + self._steadiness.hold_s(time.monotonic())
            while True:
                if not self.state.is_reachable and time.monotonic() >= counts_from:
                    self._succeed(state)
                await self._act(plan.next(time.monotonic()), plan, connection, limits, role)
        finally:
            self._plan = None
            self._readable = False
            await connection.close()

    async def _start_tracking(self, connection: PushConnection) -> RedisState:
        try:
            await connection.track(self._config_key)
        except RejectedError as error:
            if error.code == "LOADING":
                raise
            logger.info("Redis doesn't push changes, so they are polled", extra=error.fields())
            return RedisState.POLLING
        return RedisState.TRACKING

    async def _act(
        self, action: Action, plan: ReadingPlan, connection: PushConnection, limits: FpsHash, role: RoleCheck
    ) -> None:
        """Takes one step of the plan; raises RedisServerError if the connection is lost, or isn't worth keeping."""
        match action.step:
            case Step.WAIT:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(action.until - time.monotonic()):
                        await self._wake.wait()
                self._wake.clear()
                connection.raise_if_lost()
                return
            case Step.COALESCE:
                await asyncio.sleep(action.until - time.monotonic())
                return
            case Step.READ_AWAITED:
                await self._read_awaited(plan, limits)
                await role.check_if_due()  # a server that is always asked about something is never pinged
            case Step.READ_SMALL:
                await self._read_small(plan, connection, limits)
            case Step.READ_WATCHED:
                await self._read_watched(plan, limits)
            case Step.RESYNC:
                self._resyncs += 1
                await role.check_if_due()
                self._small.outdate(None)
                await self._read_small(plan, connection, limits)  # before the streams, whose limits depend on them
                await self._read_watched(plan, limits)
            case Step.PING:
                await role.check()
                plan.record_answer(time.monotonic())
        if not self._wrong_type:
            self._agreed_at = max(self._agreed_at, plan.agreed_at)

    async def _read_small(self, plan: ReadingPlan, connection: PushConnection, limits: FpsHash) -> None:
        """Reads the small hashes that are outdated; if patterns changed, applies them to the watched streams."""
        plan.begin_small_reading(time.monotonic())
        problems = dict(self._small.problems)
        if await self._small.read(functools.partial(self._call, connection)):
            names = list(self._table.watched)
            for start in range(0, len(names), CHUNK):
                self._table.refresh(names[start : start + CHUNK])
                await asyncio.sleep(0)
                await self._read_awaited(plan, limits)
        plan.end_small_reading(time.monotonic())
        if self._small.problems != problems and self.state.is_reachable:
            self._small.report()
            self._enter(self.state)

    async def _read_watched(self, plan: ReadingPlan, limits: FpsHash) -> None:
        await self._read_awaited(plan, limits)
        plan.begin_reading(time.monotonic())
        if self._reads_streams:
            await self._read_streams(plan, limits)
        plan.end_reading(time.monotonic())

    async def _read_streams(self, plan: ReadingPlan, limits: FpsHash) -> None:
        watched = self._table.watched
        names = [WILDCARD_FIELD, *watched]
        try:
            whole = await limits.read_whole()
            for start in range(0, len(names), CHUNK):
                chunk = names[start : start + CHUNK]
                if whole is None:
                    values = await limits.read_fields(chunk)
                else:
                    # Older than what was read for a first frame since then, if that changed; then a push came, too.
                    values = [whole.get(name) for name in chunk]
                    await asyncio.sleep(0)
                if start == 0:
                    self._table.store_wildcard(values[0])
                    chunk, values = chunk[1:], values[1:]
                # Streams that were forgotten or put to sleep while Redis answered stay so.
                pairs = [pair for pair in zip(chunk, values, strict=True) if pair[0] in watched]
                self._table.store((name for name, _ in pairs), (value for _, value in pairs))
                await self._read_awaited(plan, limits)
            self._record_type(is_hash=True)
        except NotAHashError:
            self._record_type(is_hash=False)

    async def _read_awaited(self, plan: ReadingPlan, limits: FpsHash) -> None:
        """Reads the streams whose first frames wait, if there are any, and lets the frames go on."""
        awaited = plan.take_awaited()
        if not awaited:
            return
        done, self._awaited_done = self._awaited_done, None
        try:
            names = iter(awaited)
            while chunk := list(itertools.islice(names, CHUNK)):
                try:
                    values = await limits.read_fields(chunk)
                except NotAHashError:  # the next reading of the watched streams records it
                    self._table.assume(chunk)
                else:
                    self._table.store(chunk, values)
            plan.record_answer(time.monotonic())
        finally:
            if done is not None:
                done.set_result(None)

    async def _call(self, connection: PushConnection, *command: str) -> Any:
        answer = await connection.call(*command)
        self._unresponsive = False
        return answer

    def _pushed(self, keys: list[bytes] | None) -> None:
        small = self._small.outdate(keys)
        limits = self._reads_streams and (keys is None or self._config_key.encode() in keys)
        if not (small or limits):
            return
        self._pushes += 1
        if self._plan is not None:  # else the first reading is still to come
            if small:
                self._plan.record_small_push(time.monotonic())
            if limits:
                self._plan.record_push(time.monotonic())
        self._wake.set()

    def _record_type(self, *, is_hash: bool) -> None:
        """Records whether the key of the limits is a hash; if it isn't, the last known limits stay in force."""
        if is_hash is not self._wrong_type:
            return
        self._wrong_type = not is_hash
        if self._wrong_type:
            message = "the key of the limits isn't a hash; the last known limits stay in force"
            hint = "delete the key or change --config-key"
            logger.warning(message, extra={"key": self._config_key, "hint": hint})
        if self.state.is_reachable:
            self._enter(self.state)

    def _succeed(self, state: RedisState) -> None:
        self._backoff.reset()
        self._failures_logged.clear()
        logger.info("following the limits in Redis", extra={"state": state.name, "key": self._config_key})
        self._small.report()
        self._enter(state)

    def _fail(self, error: Exception) -> None:
        if self.state.is_reachable:
            self._steadiness.record_loss(time.monotonic())
        if not isinstance(error, RedisServerError):
            logger.error("following the limits failed unexpectedly; trying again", exc_info=error)
            problem, sentence = Problem.OTHER, f"following the limits failed unexpectedly: {error!r} (see the log)"
        else:
            problem, sentence = error.problem, error.sentence
            if error.summary not in self._failures_logged:  # once for each kind, until it works again
                self._failures_logged.add(error.summary)
                logger.warning(f"{error.summary}; the last known limits stay in force", extra=error.fields())
        self._enter(RedisState.AWAY, problem, sentence)

    def _enter(self, state: RedisState, problem: Problem | None = None, sentence: str = "") -> None:
        if state.is_reachable and self._wrong_type:
            problem = Problem.WRONGTYPE
            sentence = f"the key {self._config_key!r} isn't a hash (delete it or change --config-key)"
        is_stale = problem is not None
        if state.is_reachable and not is_stale:
            problem, sentence = next(iter(self._small.problems.values()), (None, ""))
        self._record(state, problem, sentence, stale=is_stale)
        if not state.is_reachable and self._awaited_done is not None:
            self._awaited_done.set_result(None)
            self._awaited_done = None
