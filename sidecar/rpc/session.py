"""Sessions: clients that ask over one long call, and answer by themselves what is certain to be denied.

One coroutine reads a session's requests, one sends what its outbox holds. A decision, the changes that follow from it
and the answer happen in one step of the event loop, so the outbox has them in the order of the decisions.

Nothing grows with a client that doesn't read: while too many messages wait, its requests aren't read either; drops run
together into one (see outbox); and after STALLED_S in which no message could be sent, the session is cut: its leases are
nobody's any more, and it ends as soon as the client reads, or is gone. While no session is open, nobody is told of
changes, and they cost nothing.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Container, Sequence
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError

from handcounter.pacing.bounds import batch_error, too_long
from handcounter.pacing.schedule import Reason, stream_name_error, ts_error
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Limiter
from sidecar.rpc.outbox import Outbox
from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

MAX_SESSIONS: Final = 64
"""A pod has one worker, or a few; more is somebody who forgets to close."""

MAX_UNSENT: Final = 16
"""So many messages may wait before requests do."""

STALLED_S: Final = 10.0
"""How long a client may not read."""

MOST_DENIED: Final = 2**31
"""Frames of one reason in a report about a second of a stream; sums of it stay far below what the counters hold."""


Context = grpc.aio.ServicerContext[Any, Any]

_DENIALS: Final = frozenset(int(reason) for reason in Reason if reason is not Reason.ADMITTED)


class RequestError(ValueError):
    """A request that makes no sense, or is too long."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


class Session:
    """One client's session: what it asks, and what is told to it. No I/O."""

    def __init__(self, metrics: Metrics) -> None:
        self.outbox = Outbox()
        self.changed = asyncio.Event()
        """Set when a message is added to the outbox or taken from it."""
        self.ending = False
        """Whether no more messages will be added to the outbox."""
        self.deciding = False
        """Whether a request is being decided."""
        self.stalled = False
        """Whether the client didn't read for too long."""
        self._revoked_one = metrics.dropped_leases.labels("stream")
        self._revoked_all = metrics.dropped_leases.labels("all")

    @property
    def leased(self) -> Container[str]:
        """The streams on which the client holds leases."""
        return self.outbox.leased

    def revoke(self, stream_name: str) -> None:
        """Revokes the lease on a stream, if there is one."""
        if self.outbox.revoke(stream_name):
            self._revoked_one.inc()
            self.changed.set()

    def revoke_all(self) -> None:
        """Revokes all leases, if there are any."""
        if self.outbox.revoke_all():
            self._revoked_all.inc()
            self.changed.set()

    def answer(self, stream_names: Sequence[str], answers: pb.SessionAnswers) -> None:
        """Adds the answer to a request to the outbox."""
        self.outbox.answer(stream_names, answers)
        self.changed.set()


class Sessions:
    """All sessions.

    Args:
        limiter: decides.
        leases: the book in which open sessions are entered as holders of leases.
        metrics: counts.
        clock: real time, seconds by a monotonic clock.
        wall_clock: Unix seconds, the ts of a frame that comes without one.
        max_sessions: how many may be open at one time.
        stalled_s: how long a client may not read, seconds.
    """

    def __init__(
        self,
        limiter: Limiter,
        leases: LeaseBook,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        max_sessions: int = MAX_SESSIONS,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._limiter = limiter
        self._leases = leases
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_sessions = max_sessions
        self._stalled_s = stalled_s
        self._served = 0  # includes sessions that were cut but whose calls aren't over yet
        self._shut_down = asyncio.Event()
        self._took = metrics.decision_seconds.labels("ShouldProcessSession").observe
        for extent in ("stream", "all"):
            metrics.dropped_leases.labels(extent)  # exported before the first revocation

    def shut_down(self) -> None:
        """Ends all sessions once their requests in progress are answered, and rejects new ones."""
        self._shut_down.set()

    def enter(self) -> Session:
        """Opens a session."""
        session = Session(self._metrics)
        self._leases.open(session)
        self._metrics.sessions.set(len(self._leases.holders))
        return session

    def leave(self, session: Session) -> None:
        """Closes a session, if it isn't closed yet; no more changes are reported to it."""
        if self._leases.close(session):
            self._metrics.sessions.set(len(self._leases.holders))

    async def ask(self, session: Session, request: pb.ShouldProcessSessionRequest) -> None:
        """Takes in the reports of a request and decides its frames; the answer is in the session's outbox.

        Raises:
            RequestError: The request makes no sense, or is too long; nothing was changed.
        """
        started = time.perf_counter()
        if error := too_long(len(request.stream_names)) or too_long(len(request.leased_denials), "reports"):
            raise RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, error)
        names, tss = list(request.stream_names), list(request.ts)
        if not tss and names:
            tss = [self._wall_clock()] * len(names)
        if error := batch_error(names, tss) or _reports_error(request):
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, error)
        limiter = self._limiter
        if request.leased_denials:
            self._take_in(request)
        if not names:
            session.answer(names, pb.SessionAnswers())
            return
        self._metrics.batch_frames.observe(len(names))
        if unprepared := limiter.unprepared(names):
            await limiter.prepare(unprepared, names)
        # The client gave up its leases on these when it asked, so what its own question changes isn't told to it.
        session.outbox.leased.difference_update(names)
        answers = await limiter.answer_all(names, tss, self._clock())
        # As things are now: in fleet scope others may have changed them while Redis answered.
        leases = [limiter.lease(name) for name in names]
        message = pb.SessionAnswers(
            should_process=answers.should_process,
            reasons=cast(Any, answers.reasons),
            fps=answers.fps,
            next_ts=[0.0 if limiter.shadow else next_ts for _, next_ts in leases],
            last_ts=[last_ts for last_ts, _ in leases],
        )
        session.answer(names, message)
        self._took(time.perf_counter() - started)

    async def serve(self, context: Context) -> None:
        """Serves one session to its end."""
        if self._shut_down.is_set():
            await self._end(context, grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")
        if self._served >= self._max_sessions:
            message = f"at most {self._max_sessions} sessions may be open"
            await self._end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        self._served += 1
        session = self.enter()
        reading = asyncio.create_task(self._read(session, context))
        sending = asyncio.create_task(self._send(session, context, reading))
        shut_down = asyncio.create_task(self._shut_down.wait())
        try:
            await asyncio.wait((reading, sending, shut_down), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() or not session.deciding:  # a question that is being decided is answered
                reading.cancel()
            (read,) = await asyncio.gather(reading, return_exceptions=True)
            session.ending = True
            session.changed.set()
            await sending  # what was asked is answered, also if the session ends for a bad request
            if session.stalled:
                await self._end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "the client doesn't read")
            if isinstance(read, RequestError):
                self._metrics.invalid_requests.labels("ShouldProcessSession").inc()
                await context.abort(read.status, str(read))
            if isinstance(read, Exception):
                raise read
            if self._shut_down.is_set():
                await self._end(context, grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")
        finally:
            self._served -= 1
            self.leave(session)
            for task in (reading, sending, shut_down):
                task.cancel()
            await asyncio.gather(reading, sending, shut_down, return_exceptions=True)

    async def _read(self, session: Session, context: Context) -> RequestError | None:
        """Reads to the end, or to a bad request: it is given, not raised, since its frames would keep the request."""
        while not self._shut_down.is_set():
            try:
                request = await context.read()
            except DecodeError:
                message = "the request is no message of this method's type"
                return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
            if request is grpc.aio.EOF:
                return None
            session.deciding = True
            try:
                await self.ask(session, cast(pb.ShouldProcessSessionRequest, request))
            except RequestError as error:
                return error.with_traceback(None)
            finally:
                session.deciding = False
            del request  # else it would stay until the next one, which may be long
            while len(session.outbox) >= MAX_UNSENT and not self._shut_down.is_set():
                session.changed.clear()
                await session.changed.wait()
        return None

    async def _send(self, session: Session, context: Context, reading: "asyncio.Task[RequestError | None]") -> None:
        loop = asyncio.get_running_loop()
        while not session.stalled:
            message = session.outbox.take()
            if message is not None:
                session.changed.set()
                # A write that was begun can't be taken back, and no status be sent before its end.
                stall = loop.call_later(self._stalled_s, self._cut, session, context, reading)
                try:
                    await context.write(message)
                finally:
                    stall.cancel()
            elif session.ending:
                return
            else:
                session.changed.clear()
                await session.changed.wait()

    def _cut(self, session: Session, context: Context, reading: "asyncio.Task[RequestError | None]") -> None:
        logger.warning("a client doesn't read its answers, so its session is cut", extra={"peer": context.peer()})
        session.stalled = True
        session.outbox = Outbox()
        self.leave(session)
        reading.cancel()

    def _take_in(self, request: pb.ShouldProcessSessionRequest) -> None:
        now = self._clock()
        frames = 0
        for report in request.leased_denials:
            denied = (0, 0, report.too_soon, report.paused, report.duplicate, report.late)
            frames += sum(denied)
            at = now - report.age_seconds
            self._limiter.take_in(report.stream_name, denied, report.last_ts, Reason(report.last_reason), at)
        self._metrics.leased_denials.inc(frames)

    async def _end(self, context: Context, status: grpc.StatusCode, message: str) -> None:
        self._metrics.refused_sessions.labels(status.name).inc()
        await context.abort(status, message)


def _reports_error(request: pb.ShouldProcessSessionRequest) -> str | None:
    for index, report in enumerate(request.leased_denials):
        error = stream_name_error(report.stream_name) or ts_error(report.last_ts)
        denied = (report.too_soon, report.paused, report.duplicate, report.late)
        if not 0 <= min(denied) <= max(denied) <= MOST_DENIED:
            error = f"the numbers of denied frames must be from 0 to {MOST_DENIED}"
        elif int(report.last_reason) not in _DENIALS:
            error = f"last_reason must be that of a denial, got {report.last_reason}"
        elif not 0.0 <= report.age_seconds < math.inf:
            error = f"age_seconds must be finite and not negative, got {report.age_seconds}"
        if error:
            return f"report {index}: {error}"
    return None
