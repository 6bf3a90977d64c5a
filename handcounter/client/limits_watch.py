"""Watches the limits of streams: they are told by the sidecar, and can be read at any time without waiting.

For programs that have frames but don't ask about them: a publisher that uploads only what will be admitted, a console. To
decide about frames use :class:`handcounter.client.RateLimiter`.

This is the one place that decides what happens without a sidecar: the last known limits stay in force, a thread looks for the
sidecar until it answers, and both changes are logged, once each. A sidecar that refuses (an older one without
``WatchLimits``, or one with too many watchers) counts as unreachable and is asked again from time to time.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

import grpc

from handcounter.client.channel import open_channel
from handcounter.client.told_limits import FpsSource, StreamLimit, WatchedStreams
from handcounter.pacing.schedule import Pacing, stream_name_error
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

logger = logging.getLogger(__name__)

START_S: Final = 1.0
"""How long a sidecar may take to answer before it is unreachable: it may start together with this program."""

RETRY_S: Final = 0.2
"""Seconds between two attempts; with the channel's backoff a restarted sidecar is found within a second."""

REFUSED_S: Final = 5.0
"""Seconds until a sidecar that refused is asked again."""

_UNREACHABLE: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
_SOURCES: Final = {int(source): source for source in FpsSource}


class LimitsWatch:
    """The limits of the streams that it watches. Thread-safe. As a context manager it closes at the end."""

    def __init__(
        self,
        address: str,
        *,
        on_told: Callable[[list[str]], None] = lambda _names: None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Opens a channel, which connects in the background. It watches no stream yet.

        Args:
            address: HOST:PORT or unix:/path of the sidecar.
            on_told: called in a thread of its own after each message, with the streams whose limits it told, and with none
                when the sidecar is found to be unreachable.
            credentials: for a sidecar with TLS, see :func:`handcounter.client.tls_credentials`; None: plain text.
        """
        self._address = address
        self._on_told = on_told
        self._channel = open_channel(address, credentials)
        self._stub = RateLimitServiceStub(self._channel)
        self._streams = WatchedStreams()
        self._limits: dict[str, StreamLimit] = {}
        self._pacing = Pacing.GCRA
        self._shadow = False
        self._stale = True
        self._reachable = False
        self._ever_reached = False
        self._lost_at = time.monotonic()
        self._logged = False
        self._closed = False
        self._changed = threading.Condition()
        self._call: list[grpc.Call] = []  # the current one; not an attribute, because the finalizer must not hold self
        # A call that is still open would keep the interpreter from ending.
        weakref.finalize(self, _cancel, self._call)
        self._thread = threading.Thread(target=self._run, name="limits-watch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    def watch(self, stream_name: str, source_fps: float = 0.0) -> None:
        """Watches a stream, or tells another rate of its source. Doesn't wait.

        Args:
            stream_name: 1 to 256 characters.
            source_fps: how many frames the camera delivers per second, before any is left out; 0: unknown, or none.

        Raises:
            ValueError: The name or the rate isn't valid.
        """
        if error := stream_name_error(stream_name):
            raise ValueError(error)
        if not 0.0 <= source_fps < float("inf"):
            raise ValueError(f"source_fps must be finite and not negative, got {source_fps}")
        with self._changed:
            if self._streams.watch(stream_name, source_fps):
                self._changed.notify_all()

    def unwatch(self, stream_name: str) -> None:
        """Watches a stream no longer, and forgets its limit."""
        with self._changed:
            self._limits.pop(stream_name, None)
            if self._streams.unwatch(stream_name):
                self._changed.notify_all()

    def limit(self, stream_name: str) -> StreamLimit | None:
        """Returns the last known limit of a stream; None if it was never told. Never waits.

        A boost ends at its time, whether or not the sidecar is reachable then.
        """
        limit = self._limits.get(stream_name)
        return limit if limit is None or limit.after_boost is None else limit.at(time.time())

    @property
    def pacing(self) -> Pacing:
        """How slots advance at an admission."""
        return self._pacing

    @property
    def shadow(self) -> bool:
        """Whether every frame is admitted, whatever its limit, so that nothing may be left out."""
        return self._shadow

    @property
    def sidecar_unreachable(self) -> bool:
        """Whether the sidecar is unreachable, so that no limits are told at present."""
        return not self._reachable

    @property
    def stale(self) -> bool:
        """Whether the limits may be outdated, because the sidecar is unreachable, or Redis is for it."""
        return self._stale or not self._reachable

    def wait_told(self, timeout: float) -> bool:
        """Waits at most so many seconds until the limits of all watched streams were told; returns whether they were."""
        with self._changed:
            return self._changed.wait_for(self._all_told, timeout)

    def close(self) -> None:
        """Ends the watch. The last known limits can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        _cancel(self._call)
        self._channel.close()
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _all_told(self) -> bool:
        return self._reachable and self._streams.source_fps.keys() <= self._limits.keys()

    def _run(self) -> None:
        """Makes one call after another until it is closed."""
        starting = threading.Timer(START_S, self._lose_at_start)
        starting.daemon = True
        starting.start()
        while not self._closed:
            pause_s = RETRY_S
            try:
                self._serve()
                self._lose("the sidecar ended the watch")
            except grpc.RpcError as error:
                pause_s = RETRY_S if error.code() in _UNREACHABLE else REFUSED_S
                self._lose(f"{error.code().name}: {error.details()}")
            except ValueError:  # gRPC's error on a channel that was closed in the meantime
                break
            with self._changed:
                self._changed.wait_for(lambda: self._closed, pause_s)
        starting.cancel()

    def _serve(self) -> None:
        """Makes one call, and takes what it tells until it ends."""
        ended = threading.Event()
        with self._changed:
            self._streams.begin_call()
        # While nothing listens there, the call waits for the channel, which finds a sidecar within half a second.
        call = self._stub.WatchLimits(self._requests(ended), wait_for_ready=True)
        self._call[:] = [call]
        try:
            if self._closed:
                call.cancel()
            for message in call:
                self._take(message)
        finally:
            with self._changed:
                ended.set()
                self._changed.notify_all()

    def _requests(self, ended: threading.Event) -> Iterator[pb.WatchLimitsRequest]:
        """Yields the requests of a call. gRPC iterates over them in a thread of its own."""
        while True:
            with self._changed:
                while True:
                    if ended.is_set() or self._closed:
                        return
                    changes = self._streams.take()
                    if changes is not None:
                        break
                    self._changed.wait()
            yield pb.WatchLimitsRequest(
                stream_names=list(changes.source_fps),
                source_fps=list(changes.source_fps.values()),
                dropped_stream_names=changes.dropped,
            )

    def _take(self, message: pb.WatchLimitsResponse) -> None:
        """Takes what a message tells. A foreign or broken server may tell anything."""
        told = []
        with self._changed:
            watched = self._streams.source_fps
            for limit in message.limits:
                name = limit.stream_name
                known = self._limits.get(name)
                # A sidecar that starts without Redis doesn't know better than the one before.
                is_guess = limit.limit_unread and known is not None and not known.unread
                if name in watched and limit.fps >= 0.0 and not is_guess:
                    self._limits[name] = _told(limit)
                    told.append(name)
            self._pacing = Pacing.MIN_GAP if message.pacing == pb.PACING_MIN_GAP else Pacing.GCRA
            self._shadow = message.shadow
            self._stale = message.stale
            if not self._reachable:
                self._find()
            self._changed.notify_all()
        self._call_back(told)

    def _call_back(self, told: list[str]) -> None:
        try:
            self._on_told(told)
        except Exception:
            logger.exception("a function that is called with told limits failed")

    def _find(self) -> None:
        self._reachable = self._ever_reached = True
        if self._logged:
            self._logged = False
            unreachable_s = round(time.monotonic() - self._lost_at, 1)
            logger.info(
                "the sidecar tells limits again", extra={"sidecar": self._address, "unreachable_s": unreachable_s}
            )

    def _lose_at_start(self) -> None:
        with self._changed:
            if not self._ever_reached:
                self._lose(f"no answer within {START_S:g} s")

    def _lose(self, error: str) -> None:
        with self._changed:
            if self._reachable:
                self._lost_at = time.monotonic()
            self._reachable = False
            if self._logged or self._closed:
                return
            self._logged = True
            logger.warning(
                "the sidecar tells no limits, the last known ones stay in force",
                extra={"sidecar": self._address, "error": error, "without_limit": self._without_limit()},
            )
        self._call_back([])

    def _without_limit(self) -> int:
        """Returns how many of the watched streams have no limit, because none was ever told."""
        return len(self._streams.source_fps.keys() - self._limits.keys())


def _told(limit: pb.StreamLimit) -> StreamLimit:
    """Returns what a message tells of a limit."""
    after = None
    if limit.fps_source == pb.FPS_SOURCE_BOOST and limit.HasField("after_boost") and limit.after_boost.fps >= 0.0:
        then = limit.after_boost
        after = StreamLimit(then.fps, _source(then), limit.invalid_value, limit.limit_unread, then.pattern)
    return StreamLimit(
        limit.fps,
        _source(limit),
        limit.invalid_value,
        limit.limit_unread,
        limit.pattern,
        limit.boost_until if after else 0.0,
        after,
    )


def _source(limit: pb.StreamLimit) -> FpsSource:
    return _SOURCES.get(limit.fps_source, FpsSource.UNKNOWN)


def _cancel(call: list[grpc.Call]) -> None:
    for each in call:
        each.cancel()
