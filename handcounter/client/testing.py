"""A fake sidecar for tests of programs that use :mod:`handcounter.client`. Needs only grpcio and protobuf.

::

    def test_a_paused_camera_is_skipped():
        with FakeSidecar(fps={"cam1": 0.0}) as sidecar, RateLimiter(sidecar.address, default_fps=1.0) as limiter:
            assert limiter.decide([("cam1", 10.0)]) == [Reason.PAUSED]
        assert sidecar.requests == [[("cam1", 10.0)]]

It is a gRPC server in the same process, without Redis. It decides by the real rule, which looks at no clock but that of the
frames, so the same frames always get the same decisions.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import Final, Self, cast

import grpc

from handcounter.pacing.bounds import Frames, batch_error, too_long, uneven
from handcounter.pacing.schedule import Reason, Schedule, decide, next_ts
from handcounter.pacing.times import RealTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import (
    RateLimitServiceServicer,
    add_RateLimitServiceServicer_to_server,
)

MAX_CALLS: Final = 64
"""A session or a watch takes up a thread as long as it is open."""

_Outbox = queue.SimpleQueue[pb.ShouldProcessSessionResponse | None]
_Told = queue.SimpleQueue[pb.WatchLimitsResponse | None]


class FakeSidecar(RateLimitServiceServicer):
    """A sidecar whose limits are set by the test, and which can fail. As a context manager it starts and stops.

    Its attributes may be set at any time and act on the next request. They aren't reset by :meth:`stop`, but the
    schedules are forgotten, as when a sidecar restarts.
    """

    def __init__(
        self,
        *,
        fps: Mapping[str, float] | None = None,
        default_fps: float = 1.0,
        address: str = "127.0.0.1:0",
        sessions: bool = True,
        leases: bool = False,
    ) -> None:
        """Prepares a sidecar; :meth:`start` makes it listen.

        Args:
            fps: the limit of each stream, frames per second; 0 pauses, infinity lifts the limit.
            default_fps: the limit of streams that ``fps`` doesn't have.
            address: HOST:PORT or unix:/path; port 0 chooses a free port.
            sessions: whether it accepts sessions and watches; without sessions the client makes a call for each batch.
            leases: whether it grants leases. Without them the client asks about every frame, and a changed limit acts on
                the very next one. With them a changed limit acts on a leased stream only after :meth:`revoke`, as soon
                as the client has read that.
        """
        self.address = address
        """Where it listens: HOST:PORT, with the chosen port after the first :meth:`start`, or unix:/path."""
        self.fps = dict(fps or {})
        self.default_fps = default_fps
        self.sessions = sessions
        self.leases = leases
        self.rejection: grpc.StatusCode | None = None
        """If set, it rejects each request that has frames with this status."""
        self.silent = False
        """If true, it reads requests but doesn't answer."""
        self.now = 0.0
        """Real time, seconds. It matters only if a stream's clock restarts."""
        self.schedules: dict[str, Schedule | None] = {}
        self.requests: list[list[tuple[str, float]]] = []
        """The frames of each request that has any, in the order of arrival."""
        self.reports: list[pb.LeasedDenials] = []
        """What the client denied by leases, as it reported it."""
        self.stale = False
        """Whether clients are told that Redis is unreachable."""
        self.unread: set[str] = set()
        """Streams whose limit it says it has never read, as a sidecar does that was started while Redis is unreachable."""
        self.source_fps: dict[str, float] = {}
        """The streams that are watched, each with the rate of its source as its watcher told it last."""
        self._lock = threading.RLock()
        self._watches: dict[_Told, set[str]] = {}
        self._outboxes: set[_Outbox] = set()
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        """Starts."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops."""
        self.stop()

    def start(self) -> None:
        """Listens; after :meth:`stop` at the same address again.

        Raises:
            RuntimeError: The address isn't free.
        """
        # Without the option a second server could listen on the same port, and get some of the calls.
        server = grpc.server(futures.ThreadPoolExecutor(MAX_CALLS), options=[("grpc.so_reuseport", 0)])
        add_RateLimitServiceServicer_to_server(self, server)
        port = server.add_insecure_port(self.address)
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        server.start()
        self._server = server

    def stop(self) -> None:
        """Ends all calls, stops listening and forgets all schedules."""
        if self._server is not None:
            self.end_sessions()
            self._server.stop(None).wait()
            self._server = None
        self.schedules.clear()

    def end_sessions(self) -> None:
        """Ends all sessions and watches with status OK, which a client takes for a lost one."""
        with self._lock:
            for outbox in self._outboxes:
                outbox.put(None)
            for told in self._watches:
                told.put(None)

    def revoke(self, *stream_names: str) -> None:
        """Revokes the leases of these streams in all sessions; without names those of all streams."""
        revocation = pb.DroppedLeases(stream_names=stream_names, all_streams=not stream_names)
        with self._lock:
            for outbox in self._outboxes:
                outbox.put(pb.ShouldProcessSessionResponse(dropped_leases=revocation))

    def tell(self, *stream_names: str) -> None:
        """Tells all watchers the limits of these streams as they are now; without names those of all that they watch."""
        with self._lock:
            for told, watched in self._watches.items():
                told.put(self._limits(watched.intersection(stream_names) if stream_names else watched))

    def answers(self, frames: Frames) -> pb.SessionAnswers:
        """Returns the answers to a batch that isn't empty. A subclass may answer otherwise."""
        answers = pb.SessionAnswers()
        for name, ts in frames:
            fps = self.fps.get(name, self.default_fps)
            reason, schedule = decide(self.schedules.get(name), ts, fps, RealTime(self.now))
            self.schedules[name] = schedule
            answers.should_process.append(reason is Reason.ADMITTED)
            answers.reasons.append(cast(pb.Reason, int(reason)))
            answers.fps.append(fps)
            answers.next_ts.append(max(0.0, next_ts(schedule, fps)))
            answers.last_ts.append(schedule.last_ts if schedule else 0.0)
        return answers

    def stream_limit(self, stream_name: str) -> pb.StreamLimit:
        """Returns what watchers are told of a stream. A subclass may tell otherwise."""
        return pb.StreamLimit(
            stream_name=stream_name,
            fps=self.fps.get(stream_name, self.default_fps),
            fps_source=pb.FPS_SOURCE_OVERRIDE if stream_name in self.fps else pb.FPS_SOURCE_DEFAULT,
            limit_unread=stream_name in self.unread,
        )

    def ShouldProcess(  # noqa: N802 (the contract's name)
        self, request: pb.ShouldProcessRequest, context: grpc.ServicerContext
    ) -> pb.ShouldProcessResponse:
        """Answers a call about one frame."""
        ts = [request.ts] if request.HasField("ts") else []
        answers = self._answer_call(request, [request.stream_name], ts, context)
        return pb.ShouldProcessResponse(
            should_process=answers.should_process[0],
            reason=answers.reasons[0],
            fps=answers.fps[0],
            fps_source=pb.FPS_SOURCE_OVERRIDE if request.stream_name in self.fps else pb.FPS_SOURCE_DEFAULT,
            next_ts=answers.next_ts[0],
            stale=answers.stale,
            limit_unread=bool(answers.unread_limits),
        )

    def ShouldProcessBatch(  # noqa: N802
        self, request: pb.ShouldProcessBatchRequest, context: grpc.ServicerContext
    ) -> pb.ShouldProcessBatchResponse:
        """Answers a call about a batch."""
        answers = self._answer_call(request, request.stream_names, request.ts, context)
        return pb.ShouldProcessBatchResponse(
            should_process=answers.should_process,
            reasons=answers.reasons,
            fps=answers.fps,
            next_ts=answers.next_ts,
            stale=answers.stale,
            unread_limits=answers.unread_limits,
        )

    def ShouldProcessSession(  # noqa: N802
        self, request_iterator: Iterator[pb.ShouldProcessSessionRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ShouldProcessSessionResponse]:
        """Answers a session."""
        if not self.sessions:
            self._hang_if_silent(context)
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this fake sidecar has no sessions")
        outbox: _Outbox = queue.SimpleQueue()
        rejections: list[_RejectedError] = []
        with self._lock:
            self._outboxes.add(outbox)
        context.add_callback(lambda: outbox.put(None))

        def read() -> None:
            with contextlib.suppress(grpc.RpcError):  # the call ended
                for request in request_iterator:
                    try:
                        self._answer_in_session(request, outbox)
                    except _RejectedError as error:
                        rejections.append(error)
                        break
            outbox.put(None)

        threading.Thread(target=read, name="fake-sidecar-session", daemon=True).start()
        try:
            while (message := outbox.get()) is not None:
                yield message
        finally:
            with self._lock:
                self._outboxes.remove(outbox)
        for rejection in rejections:
            context.abort(rejection.code, str(rejection))

    def WatchLimits(  # noqa: N802
        self, request_iterator: Iterator[pb.WatchLimitsRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.WatchLimitsResponse]:
        """Tells limits: those of each request's streams, and what the test tells."""
        if not self.sessions:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this fake sidecar has no watches")
        told: _Told = queue.SimpleQueue()
        with self._lock:
            self._watches[told] = set()
        context.add_callback(lambda: told.put(None))

        def read() -> None:
            with contextlib.suppress(grpc.RpcError):  # the call ended
                for request in request_iterator:
                    self._change_watch(request, told)

        threading.Thread(target=read, name="fake-sidecar-watch", daemon=True).start()
        try:
            while (message := told.get()) is not None:
                yield message
        finally:
            with self._lock:
                for name in self._watches.pop(told):
                    self.source_fps.pop(name, None)

    def _change_watch(self, request: pb.WatchLimitsRequest, told: _Told) -> None:
        with self._lock:
            watched = self._watches.get(told)
            if watched is None:
                return
            for name in request.dropped_stream_names:
                watched.discard(name)
                self.source_fps.pop(name, None)
            new = [name for name in request.stream_names if name not in watched]
            watched.update(new)
            rates = request.source_fps or [0.0] * len(request.stream_names)
            self.source_fps.update(zip(request.stream_names, rates, strict=True))
            if not self.silent:
                told.put(self._limits(new))

    def _limits(self, stream_names: Iterable[str]) -> pb.WatchLimitsResponse:
        return pb.WatchLimitsResponse(
            limits=[self.stream_limit(name) for name in stream_names], stale=self.stale, pacing=pb.PACING_GCRA
        )

    def _answer_in_session(self, request: pb.ShouldProcessSessionRequest, outbox: _Outbox) -> None:
        with self._lock:  # so that answers and revocations are sent in the order of the decisions
            self.reports += request.leased_denials
            answers = self._decide(request.stream_names, request.ts, known_only=request.known_limits_only)
            if not self.leases:
                answers.next_ts[:] = [0.0] * len(answers.next_ts)
            if not self.silent:
                outbox.put(pb.ShouldProcessSessionResponse(answers=answers))

    def _answer_call(
        self,
        request: pb.ShouldProcessRequest | pb.ShouldProcessBatchRequest,
        stream_names: Sequence[str],
        ts: Sequence[float],
        context: grpc.ServicerContext,
    ) -> pb.SessionAnswers:
        self._hang_if_silent(context)
        try:
            return self._decide(stream_names, ts, dry_run=request.dry_run, known_only=request.known_limits_only)
        except _RejectedError as error:
            context.abort(error.code, str(error))

    def _hang_if_silent(self, context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        if self.silent and context.add_callback(ended.set):
            ended.wait()

    def _decide(
        self, stream_names: Sequence[str], ts: Sequence[float], *, dry_run: bool = False, known_only: bool
    ) -> pb.SessionAnswers:
        """Records the frames of a request and returns the answers to them. A dry run is neither recorded nor decided."""
        tss = ts or [time.time()] * len(stream_names)
        size_error = too_long(len(stream_names)) or uneven(len(stream_names), len(tss))
        if error := size_error or batch_error(stream_names, tss):
            raise _RejectedError(grpc.StatusCode.INVALID_ARGUMENT, error)
        if not stream_names:
            return pb.SessionAnswers()
        frames = list(zip(stream_names, tss, strict=True))
        with self._lock:
            if not dry_run:
                self.requests.append(frames)
            if self.rejection is not None:
                raise _RejectedError(self.rejection, "rejected by the test")
            before = self.schedules.copy()
            answers = self.answers(cast(Frames, frames))
            unread = [place for place, name in enumerate(stream_names) if name in self.unread]
            if known_only:
                for place in unread:
                    answers.should_process[place] = False
                    answers.reasons[place] = pb.REASON_UNSPECIFIED
                    answers.next_ts[place] = answers.last_ts[place] = 0.0
                    self.schedules[stream_names[place]] = before.get(stream_names[place])
            answers.stale = self.stale
            answers.unread_limits.extend(unread)
            if dry_run:
                self.schedules = before
            return answers


class _RejectedError(Exception):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
