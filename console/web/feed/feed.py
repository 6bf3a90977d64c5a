"""Reads Redis and the sidecars for all viewers, once, and tells them what has changed.

This is the one place that decides what happens while Redis or a sidecar can't be read: the page keeps what it knows, says what
is missing, and the readings are repeated.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import redis

from console.control.capacity import asked_fps
from console.control.failures import failure_in_words
from console.control.states import State
from console.web.demands import Demands, default_of
from console.web.feed.board import Board, Diff
from console.web.feed.capacity import Capacity, CapacityWatch
from console.web.feed.facts import CameraSaid, Counted, Paced
from console.web.feed.history import History
from console.web.feed.limits_view import LimitsView
from console.web.feed.load import Load
from console.web.feed.messages import ALIVE, encode
from console.web.feed.redis_client import RedisServer, follow_pushes
from console.web.feed.redis_source import RedisSource, limits_keys, valid_names
from console.web.feed.rows import Row
from console.web.feed.sidecar_source import SidecarSource
from console.web.feed.tasks import end_tasks
from console.web.feed.viewers import Viewers

logger = logging.getLogger(__name__)

TICK_S: Final = 1.0
"""How often the streams are read."""
SOON_S: Final = 0.2
"""After a change of a limit they are read at once, but no more often than this."""
SETTLES_S: Final = 0.03
"""How long after a change the sidecars are asked: they read it within a few milliseconds."""
HASHES: Final = 2000
"""Streams whose hashes are read in one tick, at most."""
FLEET_S: Final = 2.0
INFO_S: Final = 5.0
SCAN_S: Final = 5.0
QUIET_S: Final = 5.0
POLL_S: Final = 1.0
RESYNC_S: Final = 30.0
SMALL_HASH: Final = 5000
"""With more fields than this the limits are read once a second at most."""


class Feed:
    """What the page shows, kept current by tasks of its own between start and close."""

    def __init__(
        self,
        server: RedisServer,
        source: RedisSource,
        sidecars: SidecarSource,
        board: Board,
        history: History,
        limits: LimitsView,
        load: Load,
        *,
        config_key: str,
        max_viewers: int,
    ) -> None:
        self._server = server
        self.source = source
        self.sidecars = sidecars
        self.board = board
        self.history = history
        self.load = load
        self._keys = limits_keys(config_key)
        self.limits = limits
        self.viewers = Viewers(max_viewers, self._snapshot)
        self._capacity = CapacityWatch()
        self._counted: dict[str, Counted] = {}
        self._cameras: dict[str, CameraSaid] = {}
        self._paced: dict[str, Paced] = {}
        self._found: set[str] = set()
        self._offset_s = 0.0
        """Redis' clock minus this process's."""
        self._tracking = False
        self._redis_problem = "not read yet"
        self._limits_changed = asyncio.Event()
        self._soon = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._fleet: dict[str, object] = {}
        self._told_at = 0.0
        self._encoded: tuple[float, bytes] = (-1.0, b"")
        self._version = 0.0

    @property
    def redis_problem(self) -> str:
        """Why Redis can't be read; empty if it can."""
        return self._redis_problem

    def now(self) -> float:
        """Returns Redis' clock, Unix seconds, as far as it is known."""
        return time.time() + self._offset_s

    def start(self) -> None:
        """Begins to read."""
        parts: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
            ("streams", self._read_streams),
            ("limits", self._read_limits),
            ("pushes", self._follow_pushes),
            ("scan", self._scan),
            ("fleet", self._read_fleet),
        ]
        self._tasks = [asyncio.create_task(_restarted(name, part), name=f"feed-{name}") for name, part in parts]

    async def close(self) -> None:
        """Stops reading, and ends the viewers' messages."""
        self.viewers.close()
        await end_tasks(self._tasks)
        await self.sidecars.close()
        await self.source.close()

    def _snapshot(self) -> bytes:
        """Returns everything, encoded; the same bytes for all who ask between two changes."""
        if self._encoded[0] != self._version:
            self._encoded = (self._version, encode("snapshot", self.board.snapshot(), self.now()))
        return self._encoded[1]

    async def _read_streams(self) -> None:
        while True:
            began = time.monotonic()
            await self._read_once(hashes=not self._soon.is_set())
            self._soon.clear()
            await asyncio.sleep(max(0.0, SOON_S - (time.monotonic() - began)))
            # Not asyncio.wait_for: until Python 3.12 it drops a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, TICK_S - (time.monotonic() - began))):
                    await self._soon.wait()
            if self._soon.is_set():
                await asyncio.sleep(SETTLES_S)

    async def _read_once(self, *, hashes: bool) -> None:
        self._paced = {name: paced for name, paced in (await self.sidecars.read_streams()).items() if name}
        if hashes:
            names = valid_names({*self._paced, *self._found, *self._counted, *self.board.names, *self.limits.names})
            with self._noting_problems():
                self._offset_s = await self.source.now() - time.time()
                facts, cameras, read = await self.source.streams(sorted(names), HASHES)
                for name in read:
                    self._counted.pop(name, None)
                    self._cameras.pop(name, None)
                self._counted |= facts
                self._cameras |= cameras
        self._tell()

    def _tell(self) -> None:
        """Tells the viewers what has changed."""
        now = self.now()
        self.board.section("limits", self.limits.section())
        self.board.section("problems", self._problems())
        self.board.section("fleet", self._fleet)
        self.board.section("left_out", self.board.left_out)
        paced = self._paced | {
            name: Paced(*self.limits.expected(name, now))
            for name in {*self.limits.names, *self.board.names} - self._paced.keys()
        }
        diff: Diff = self.board.update(self._counted, paced, self._cameras, self._alive(), now)
        if self.history.due(now):
            self.history.note(self.board.rows(), now)
        if diff:
            self._version += 1
            message = encode("change", diff, now)
            self.load.sent_bytes.inc(len(message))
        elif time.monotonic() - self._told_at > QUIET_S:
            message = ALIVE
        else:
            return
        self._told_at = time.monotonic()
        self.viewers.tell(message)

    def _alive(self) -> set[str]:
        """Returns the streams that sidecars know or that have a limit of their own."""
        return {*self._paced, *self.limits.names}

    def capacity(self) -> Capacity:
        """Returns what the limits ask of the workers, and what these count."""
        return self._capacity.capacity(sum(map(_asked, self.board.rows())), self.now())

    def demands(self) -> Demands:
        """Returns what the limits ask of the workers now, stream by stream."""
        capacity = self.capacity()
        sidecars = self._fleet.get("sidecars")
        alive = [
            row for row in self.board.rows() if row["state"] not in (State.SILENT, State.UNSEEN) and row["source_fps"]
        ]
        return Demands(
            {str(row["name"]): float(str(row["source_fps"])) for row in alive},
            capacity.peak,
            capacity.most,
            default_of(sidecars if isinstance(sidecars, list) else []),
            self.now(),
        )

    def _problems(self) -> list[str]:
        if self._redis_problem:
            return [f"Redis can't be read: {self._redis_problem}", *self.sidecars.problems()]
        return self.sidecars.problems() + [
            f"The {kind}s can't be read: their key isn't a hash, or this user of Redis may not read it"
            for kind in sorted(self.limits.snapshot.unread)
        ]

    async def _read_limits(self) -> None:
        while True:
            wait_s = RESYNC_S if self._tracking else POLL_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._limits_changed.wait()
            self._limits_changed.clear()
            with self._noting_problems():
                if self.limits.take(await self.source.limits()):
                    self._soon.set()
            await asyncio.sleep(0.05 if len(self.limits.names) <= SMALL_HASH else 1.0)

    async def _follow_pushes(self) -> None:
        def changed() -> None:
            self._tracking = True
            self._limits_changed.set()

        while True:
            pause_s = 1.0
            try:
                await follow_pushes(self._server, self._keys, changed)
            except redis.ResponseError as error:
                logger.info("Redis doesn't push changes of limits, so they are polled", extra={"reason": str(error)})
                pause_s = RESYNC_S
            except (redis.RedisError, OSError):
                pass  # noted by the readings
            self._tracking = False
            self._limits_changed.set()
            await asyncio.sleep(pause_s)

    async def _scan(self) -> None:
        while True:
            with self._noting_problems():
                await self.source.find_partitions()
                found = await self.source.found()
                self._found = found | {name for name in self._found if name in self._counted or name in self._cameras}
            await asyncio.sleep(SCAN_S)

    async def _read_fleet(self) -> None:
        info: dict[str, object] = {}
        info_at = float("-inf")
        while True:
            infos = await self.sidecars.read_infos()
            queue: dict[str, Any] = {}
            with self._noting_problems():
                queue = await self.source.queue()
                self._capacity.note(queue["accounting"], self.now())
                if time.monotonic() - info_at > INFO_S:
                    info, info_at = await self.source.server(), time.monotonic()
            self._fleet = {
                "sidecars": infos,
                "queue": queue,
                "redis": {**info, "tracking": self._tracking},
                "capacity": self.capacity().shown(),
                "console": {
                    "viewers": self.viewers.number,
                    "history": self.history.streams,
                    **self.load.totals(),
                },
            }
            self.load.viewers.set(self.viewers.number)
            self.load.resnapshots.set(self.viewers.resnapshots)
            self.load.streams.set(len(self.board.names))
            await asyncio.sleep(FLEET_S)

    @contextlib.contextmanager
    def _noting_problems(self) -> Any:
        """Notes whether Redis can be read, and logs each change of that once."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            self.load.errors.labels("redis").inc()
            problem, hint = _reason_and_hint(error)
            if problem != self._redis_problem:
                logger.warning("Redis can't be read", extra={"reason": problem, **({"hint": hint} if hint else {})})
            self._redis_problem = problem
        else:
            if self._redis_problem and self._redis_problem != "not read yet":
                logger.info("Redis can be read again")
            self._redis_problem = ""


async def _restarted(name: str, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a part for ever: what nobody thought of ends one round of it, and the page goes on."""
    while True:
        try:
            await part()
        except Exception:
            logger.exception("a part of the feed has failed and begins anew", extra={"part": name})
        await asyncio.sleep(TICK_S)


def _asked(row: Row) -> float:
    """Returns what the limit of a row asks for, frames per second."""
    source, limit = row["source_fps"], row["limit"]
    return asked_fps(
        str(row["state"]),
        limit if isinstance(limit, float) else None,
        source if isinstance(source, float) else None,
    )


def _reason_and_hint(error: Exception) -> tuple[str, str]:
    """Returns an error as one line, and what to do about it; redis-py's texts name addresses, but no passwords."""
    what, hint = str(error) or type(error).__name__, ""
    if isinstance(error, redis.RedisError):
        what, hint = failure_in_words(error, of_console=True)
    return what.splitlines()[0][:200], hint
