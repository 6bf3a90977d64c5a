"""Keeps the fps table in step with another sidecar, which tells limits, instead of with Redis.

So one sidecar reads the hash for any number of others, in a tree of any depth: each reads Redis, or watches its upstream, for
the streams that its own clients ask about. The upstream tells each change (see ``sidecar/rpc/watch.py``); a sidecar passes it
on to its own watchers. In the other direction it passes on what they tell of their sources.

While the upstream is unreachable, the table stays as it is, as it does without Redis. Two threads of the client read
the messages; everything here runs in the event loop.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from handcounter.client import LimitsWatch, StreamLimit
from handcounter.pacing.limits import FpsSource
from sidecar.connections.errors import Problem
from sidecar.limits.follower import FIRST_READING_S
from sidecar.limits.following import Follower, RedisState
from sidecar.limits.layers import LimitInForce
from sidecar.limits.table import FpsTable

DROP_S: Final = 10.0
"""How often the other sidecar is told of the streams that aren't watched any more."""

OpenWatch = Callable[[Callable[[list[str]], None]], LimitsWatch]
"""Returns a client that calls a function, in a thread of its own, after each message and when it loses the sidecar."""


class SidecarFollower(Follower):
    """Follows the limits of another sidecar.

    Args:
        table: Is kept up to date.
        address: The other sidecar, for people.
        open_watch: Opens its client.
        source_fps: Returns the rate of a stream's source as this sidecar's watchers tell it, frames per second; 0 for unknown.
        on_state: Is called at each change of the state, with the new one.
        on_problem: Is called whenever there is another problem with the limits, with a sentence about it; empty for none.
    """

    def __init__(
        self,
        table: FpsTable,
        address: str,
        open_watch: OpenWatch,
        source_fps: Callable[[str], float] = lambda _stream_name: 0.0,
        *,
        on_state: Callable[[RedisState], None] = lambda _state: None,
        on_problem: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        super().__init__(table, on_state, on_problem)
        self._address = address
        self._open_watch = open_watch
        self._source_fps = source_fps
        self._watch: LimitsWatch | None = None
        self._asked: set[str] = set()
        """The streams that the other sidecar tells of."""
        self._awaited: set[str] = set()
        self._awaited_done: asyncio.Future[None] | None = None
        self._unresponsive = False
        self._lost_at = -math.inf

    def age_s(self) -> float:
        """Returns the time since the table was last known to agree with the hash, seconds; infinity if it never was."""
        return 0.0 if self.state.is_reachable else time.monotonic() - self._lost_at

    async def learn(self, stream_names: Collection[str]) -> None:
        """Makes the table watch these streams. Waits for their limits where they are likely to be told, at most 50 ms."""
        if self._watch is not None:
            self._ask(self._watch, stream_names)
            if not self._awaited.isdisjoint(stream_names) and self.state.is_reachable and not self._unresponsive:
                if self._awaited_done is None:
                    self._awaited_done = asyncio.get_running_loop().create_future()
                _, late = await asyncio.wait((self._awaited_done,), timeout=FIRST_READING_S)
                if late:
                    self._unresponsive = True
        self._table.assume(stream_names)

    def tell_source_fps(self, stream_name: str) -> None:
        """Tells the other sidecar that the rate of a stream's source changed."""
        if self._watch is not None and stream_name in self._asked:
            self._watch.watch(stream_name, self._source_fps(stream_name))

    async def run(self) -> None:
        """Follows until cancelled."""
        loop = asyncio.get_running_loop()
        watch = self._open_watch(lambda names: _call(loop, self._take, names))
        self._watch = watch
        self._ask(watch, list(self._table.watched))
        try:
            while True:
                await asyncio.sleep(DROP_S)
                self._drop(watch)
        finally:
            self._watch = None
            await asyncio.to_thread(watch.close)

    def _ask(self, watch: LimitsWatch, stream_names: Iterable[str]) -> None:
        for name in stream_names:
            if name not in self._asked:
                self._asked.add(name)
                watch.watch(name, self._source_fps(name))
            limit = watch.limit(name)
            if limit is None:
                self._awaited.add(name)
            else:  # its frames were silent for a while
                self._adopt(watch, name)

    def _drop(self, watch: LimitsWatch) -> None:
        for name in self._asked - self._table.watched.keys() - self._awaited:
            self._asked.discard(name)
            watch.unwatch(name)

    def _take(self, stream_names: list[str]) -> None:
        """Takes what the other sidecar told."""
        watch = self._watch
        if watch is None:
            return
        self._unresponsive = False
        self._pushes += bool(stream_names)
        for name in stream_names:
            # Streams that were forgotten or put to sleep in the meantime stay so.
            if name in self._table.watched or name in self._awaited:
                self._adopt(watch, name)
        self._awaited.difference_update(stream_names)
        if self._awaited_done is not None and (not self._awaited or watch.sidecar_unreachable):
            self._awaited_done.set_result(None)
            self._awaited_done = None
        self._enter(watch)

    def _adopt(self, watch: LimitsWatch, stream_name: str) -> None:
        told = watch.limit(stream_name)
        if told is not None:
            self._table.adopt(stream_name, _in_force(told), told.invalid_value, was_read=not told.unread)

    def _enter(self, watch: LimitsWatch) -> None:
        state, problem, sentence = RedisState.TRACKING, None, ""
        if watch.sidecar_unreachable:
            problem, sentence = Problem.UNREACHABLE, f"the sidecar at {self._address} tells no limits (see the log)"
        elif watch.stale:
            problem, sentence = Problem.OTHER, f"the sidecar at {self._address} can't read the limits (see its log)"
        if problem is not None:
            state = RedisState.AWAY
            if self.state.is_reachable:
                self._lost_at = time.monotonic()
        self._record(state, problem, sentence, stale=problem is not None)


def _in_force(told: StreamLimit) -> LimitInForce:
    # Of a source that this version doesn't know only the limit is known, and that it is this stream's.
    source = FpsSource(told.source) if told.source else FpsSource.OVERRIDE
    after = None if told.after_boost is None else _in_force(told.after_boost)
    if source is FpsSource.BOOST and after is None:
        source = FpsSource.OVERRIDE  # its end isn't known
    return LimitInForce(told.fps, source, told.pattern, told.boost_until, after)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[list[str]], None], names: list[str]) -> None:
    """Calls a function in the event loop; not at all if that has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, names)
