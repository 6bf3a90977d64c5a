"""Sessions: one long call per client, with leases under which the client itself denies what is certain to be denied.

One coroutine reads a session's requests, another one sends the messages in its outbox. A decision, the revocations that
it causes and its answer happen in one step of the event loop, so the outbox has them in the order of the decisions.

A client that doesn't read can't make anything grow. While too many messages are unsent, its requests aren't read
either, and revocations merge into one (see outbox). If no message could be sent for STALLED_S, the session is cut: it
holds no leases any more, and its call ends as soon as the client reads or disconnects, or ANSWER_S later.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Container, Sequence
from typing import Any, Final, cast

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Limiter
from sidecar.rpc.answers import session_answers
from sidecar.rpc.outbox import Outbox
from sidecar.rpc.request_guard import Refusal
from sidecar.rpc.requests import Context, RejectedError, session_request
from sidecar.rpc.unread_answers import ANSWER_S, STALLED_S, end_call
from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

METHOD: Final = "ShouldProcessSession"

MAX_SESSIONS: Final = 64
"""A pod has one worker, or a few. More sessions mean a client that forgets to close them."""

MAX_UNSENT: Final = 16
"""How many messages may be unsent before requests have to wait."""


class Session:
    """The session of one client: a holder of leases, and the messages to it. No I/O."""

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

    def answer(self, stream_names: Sequence[str], message: pb.ShouldProcessSessionResponse) -> None:
        """Adds the answer to a request to the outbox."""
        self.outbox.answer(stream_names, message)
        self.changed.set()


class Sessions:
    """Serves all sessions.

    Args:
        limiter: decides.
        leases: the book in which open sessions are entered as holders of leases.
        metrics: counts.
        wall_clock: Unix seconds, the ts of a frame without one.
        max_sessions: how many may be open at one time.
        stalled_s: how long a client may not read, seconds.
    """

    def __init__(
        self,
        limiter: Limiter,
        leases: LeaseBook,
        metrics: Metrics,
        *,
        wall_clock: Callable[[], float] = time.time,
        max_sessions: int = MAX_SESSIONS,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._limiter = limiter
        self._leases = leases
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._max_sessions = max_sessions
        self._stalled_s = stalled_s
        self._served = 0  # includes sessions that were cut but whose calls aren't over yet
        self._shut_down = asyncio.Event()
        self._observe_seconds = metrics.decision_seconds.labels(METHOD).observe
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
        """Closes a session, if it isn't closed yet."""
        if self._leases.close(session):
            self._metrics.sessions.set(len(self._leases.holders))

    async def ask(self, session: Session, request: pb.ShouldProcessSessionRequest) -> None:
        """Records the reports of a request, decides its frames and adds the answer to the session's outbox.

        Raises:
            RejectedError: The request is invalid; nothing was changed.
        """
        started = time.perf_counter()
        batch, reports = session_request(request, self._wall_clock())
        names = batch.stream_names
        if reports:
            self._limiter.record_leased_denials(reports)
            self._metrics.leased_denials.inc(sum(sum(report.frames) for report in reports))
        if not names:
            session.answer(names, pb.ShouldProcessSessionResponse(answers=pb.SessionAnswers()))
            return
        self._metrics.batch_frames.observe(len(names))
        # The client dropped its leases on these streams when it asked, so changes by its own request revoke nothing.
        session.outbox.leased.difference_update(names)
        known_only = request.known_limits_only
        answers = await self._limiter.decide(batch, known_only=known_only)
        # Leases of this moment, not of the decision: in fleet scope others may have changed a stream while Redis answered.
        session.answer(names, session_answers(answers, self._limiter.leases(names, known_only=known_only)))
        self._observe_seconds(time.perf_counter() - started)

    async def serve(self, requests: AsyncIterator[object], context: Context) -> None:
        """Serves one session to its end.

        Args:
            requests: has the first request, and fails if it takes too long.
            context: has the others.
        """
        if self._shut_down.is_set():
            await self._end(context, grpc.StatusCode.UNAVAILABLE, "the sidecar shuts down")
        if self._served >= self._max_sessions:
            message = f"at most {self._max_sessions} sessions may be open"
            await self._end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        self._served += 1
        session = self.enter()
        reading = asyncio.create_task(self._read(session, requests, context))
        call = cast("asyncio.Task[Any]", asyncio.current_task())
        sending = asyncio.create_task(self._send(session, context, reading, call))
        shut_down = asyncio.create_task(self._shut_down.wait())
        try:
            await asyncio.wait((reading, sending, shut_down), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() or not session.deciding:  # a request that is being decided will be answered
                reading.cancel()
            (read,) = await asyncio.gather(reading, return_exceptions=True)
            session.ending = True
            session.changed.set()
            await sending  # earlier requests are answered even if the session ends because of an invalid one
            if session.stalled:
                await self._end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "the client doesn't read")
            if isinstance(read, RejectedError):
                self._metrics.invalid_requests.labels(METHOD).inc()
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

    async def _read(self, session: Session, requests: AsyncIterator[object], context: Context) -> RejectedError | None:
        """Reads to the end, or to an invalid request.

        The error is returned, not raised, since the frames of its traceback would keep the request in memory.
        """
        request = await anext(requests, grpc.aio.EOF)
        while not self._shut_down.is_set():
            if request is grpc.aio.EOF:
                return None
            if isinstance(request, Refusal):
                return RejectedError(request.status, request.message)
            session.deciding = True
            try:
                await self.ask(session, cast(pb.ShouldProcessSessionRequest, request))
            except RejectedError as error:
                return error.with_traceback(None)
            finally:
                session.deciding = False
            del request  # otherwise it would stay in memory until the next one arrives
            while len(session.outbox) >= MAX_UNSENT and not self._shut_down.is_set():
                session.changed.clear()
                await session.changed.wait()
            if not self._shut_down.is_set():
                request = await context.read()
        return None

    async def _send(
        self, session: Session, context: Context, reading: "asyncio.Task[Any]", call: "asyncio.Task[Any]"
    ) -> None:
        """Sends messages until the session ends or stalls."""
        loop = asyncio.get_running_loop()
        while not session.stalled:
            message = session.outbox.take()
            if message is not None:
                session.changed.set()
                # A write can't be taken back once it has begun, and no status can be sent before it ends.
                stall = loop.call_later(self._stalled_s, self._cut, session, context, reading, call)
                try:
                    await context.write(message)
                finally:
                    stall.cancel()
            elif session.ending:
                return
            else:
                session.changed.clear()
                await session.changed.wait()

    def _cut(self, session: Session, context: Context, reading: "asyncio.Task[Any]", call: "asyncio.Task[Any]") -> None:
        logger.warning("cut a session whose client doesn't read its answers", extra={"peer": context.peer()})
        session.stalled = True
        session.outbox = Outbox()
        self.leave(session)
        reading.cancel()
        asyncio.get_running_loop().call_later(ANSWER_S, end_call, call)

    async def _end(self, context: Context, status: grpc.StatusCode, message: str) -> None:
        self._metrics.refused_sessions.labels(status.name).inc()
        await context.abort(status, message)
