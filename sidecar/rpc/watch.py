"""Watches: long calls that tell clients the limits of streams and each change of them.

One coroutine reads a watch's requests, another one tells what is pending for its watcher (see ``sidecar/limits/watchers.py``).
A message is made when it can be sent, from the fps table as it is then. So a client that doesn't read makes nothing grow: at
most one message is unsent, and changes of the same stream merge. If no message could be sent for STALLED_S, the watch is
cut as a session is.

A watch goes on after its client's last request, so that a tool that sends one request can watch too. It ends then if it
watches nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any, Final, cast

import grpc

from handcounter.pacing.schedule import Pacing
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.limits.table import FpsTable
from sidecar.limits.watchers import Watcher, Watchers
from sidecar.rpc.answers import told_limits
from sidecar.rpc.request_guard import Refusal
from sidecar.rpc.requests import Context, RejectedError, watch_request
from sidecar.rpc.unread_answers import ANSWER_S, STALLED_S, end_call
from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

METHOD: Final = "WatchLimits"

MAX_WATCHERS: Final = 64
"""Each is a publisher with any number of cameras, a console, or another sidecar, and takes a place for calls."""

MAX_WATCHES: Final = 200_000
"""The streams of all watchers, added up: about 50 MB."""

LIMITS_PER_MESSAGE: Final = 1024
"""With the longest names these are 1.4 MB; gRPC's clients accept 4."""


class Watch:
    """The watch of one client."""

    def __init__(self, watchers: Watchers) -> None:
        self.changed = asyncio.Event()
        """Set when there is something to send, and when the watch has to end."""
        self.watcher: Watcher = watchers.open(self.changed.set)
        self.stalled = False
        """Whether the client didn't read for too long."""


class Watches:
    """Serves all watches.

    Args:
        watchers: in which open watches are entered.
        table: the limits.
        read_limits: reads the limits of streams into the table, in bounded time. It never fails.
        metrics: counts.
        pacing: how a slot advances, for the clients.
        shadow: whether every frame is admitted, for the clients.
        max_watchers: how many watches may be open at one time.
        max_watches: how many streams they may watch, added up.
        stalled_s: how long a client may not read, seconds.
    """

    def __init__(
        self,
        watchers: Watchers,
        table: FpsTable,
        read_limits: Callable[[Collection[str]], Awaitable[None]],
        metrics: Metrics,
        *,
        pacing: Pacing = Pacing.GCRA,
        shadow: bool = False,
        max_watchers: int = MAX_WATCHERS,
        max_watches: int = MAX_WATCHES,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._watchers = watchers
        self._table = table
        self._read_limits = read_limits
        self._metrics = metrics
        self._pacing = pacing
        self._shadow = shadow
        self._max_watchers = max_watchers
        self._max_watches = max_watches
        self._stalled_s = stalled_s
        self._open: set[Watch] = set()  # includes watches that were cut but whose calls aren't over yet
        self._shut_down = False

    def shut_down(self) -> None:
        """Ends all watches, and rejects new ones."""
        self._shut_down = True
        for watch in self._open:
            watch.changed.set()

    async def serve(self, requests: AsyncIterator[object], context: Context) -> None:
        """Serves one watch to its end; the arguments are those of :meth:`sidecar.rpc.session.Sessions.serve`."""
        if self._shut_down:
            await self._end(context, grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")
        if len(self._open) >= self._max_watchers:
            message = f"at most {self._max_watchers} watchers are served (--max-watchers)"
            await self._end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        watch = Watch(self._watchers)
        self._open.add(watch)
        reading = asyncio.create_task(self._read(watch, requests, context))
        reading.add_done_callback(lambda _: watch.changed.set())
        try:
            await self._send(watch, context, reading)
            if watch.stalled:
                await self._end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "the client doesn't read")
            if self._shut_down:
                await self._end(context, grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")
            (read,) = await asyncio.gather(reading, return_exceptions=True)
            if isinstance(read, RejectedError):
                self._metrics.invalid_requests.labels(METHOD).inc()
                await context.abort(read.status, str(read))
            if isinstance(read, Exception):
                raise read
        finally:
            self._open.discard(watch)
            self._watchers.close(watch.watcher)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def change(self, watch: Watch, request: pb.WatchLimitsRequest) -> None:
        """Changes what a watch watches, and marks the streams that are new to it as pending.

        Raises:
            RejectedError: The request is invalid; nothing was changed.
        """
        names, source_fps, dropped = watch_request(request)
        watcher = watch.watcher
        if self._watchers.watches + len(names) > self._max_watches:
            ended = watcher.source_fps.keys() & dropped
            begun = sum(name not in watcher.source_fps or name in ended for name in {*names})
            if self._watchers.watches + begun - len(ended) > self._max_watches:
                error = f"at most {self._max_watches} streams can be watched, added up over all watchers"
                raise RejectedError(grpc.StatusCode.RESOURCE_EXHAUSTED, error)
        self._watchers.unwatch(watcher, dropped)
        new_names = self._watchers.watch(watcher, names, source_fps)
        unread = [name for name in new_names if name not in self._table.watched]
        if unread:
            await self._read_limits(unread)
        watcher.mark_new(new_names)

    async def _read(self, watch: Watch, requests: AsyncIterator[object], context: Context) -> RejectedError | None:
        """Reads to the end, or to an invalid request.

        The error is returned, not raised, since the frames of its traceback would keep the request in memory.
        """
        request = await anext(requests, grpc.aio.EOF)
        while request is not grpc.aio.EOF:
            if isinstance(request, Refusal):
                return RejectedError(request.status, request.message)
            try:
                await self.change(watch, cast(pb.WatchLimitsRequest, request))
            except RejectedError as error:
                return error.with_traceback(None)
            del request  # otherwise it would stay in memory until the next one arrives
            request = await context.read()
        return None

    async def _send(self, watch: Watch, context: Context, reading: "asyncio.Task[RejectedError | None]") -> None:
        """Sends messages until the watch has to end: it stalls, the sidecar shuts down, or reading failed."""
        loop, call = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
        while not (watch.stalled or self._shut_down or (reading.done() and _failed(reading))):
            names = watch.watcher.take(LIMITS_PER_MESSAGE, self._table.watched)
            if names is None:
                if reading.done() and not watch.watcher.source_fps:
                    return  # there is nothing that could ever be told
                watch.changed.clear()
                await watch.changed.wait()
                continue
            message = told_limits(names, self._table, self._pacing, shadow=self._shadow)
            self._metrics.told_limits.inc(len(names))
            # A write can't be taken back once it has begun, and no status can be sent before it ends.
            stall = loop.call_later(self._stalled_s, self._cut, watch, context, reading, call)
            try:
                await context.write(message)
            finally:
                stall.cancel()

    def _cut(
        self,
        watch: Watch,
        context: Context,
        reading: "asyncio.Task[RejectedError | None]",
        call: "asyncio.Task[Any]",
    ) -> None:
        logger.warning("cut a watch whose client doesn't read", extra={"peer": context.peer()})
        watch.stalled = True
        self._watchers.close(watch.watcher)
        reading.cancel()
        asyncio.get_running_loop().call_later(ANSWER_S, end_call, call)

    async def _end(self, context: Context, status: grpc.StatusCode, message: str) -> None:
        self._metrics.refused_watches.labels(status.name).inc()
        await context.abort(status, message)


def _failed(reading: "asyncio.Task[RejectedError | None]") -> bool:
    """Returns whether a finished reading ended other than by the end of the requests."""
    return reading.cancelled() or reading.exception() is not None or reading.result() is not None
