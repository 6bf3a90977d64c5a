"""The client's end of a session: batches, answers and revoked leases over one long call.

Two threads serve it. One is gRPC's: it takes requests out of a queue, and wakes up in between to report what leases
denied. The other reads what the sidecar sends, in order, so that leases are granted and dropped in the order of the
decisions. Both end with the session, and neither keeps the program from ending.
"""

import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import grpc

from handcounter.client.leases import Leases
from handcounter.client.wire import Answers, read_answers, to_report
from handcounter.pacing.bounds import MAX_BATCH, Frames
from handcounter.pacing.times import RealTime, StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

REPORT_S: Final = 0.5
"""Seconds between reports; the contract asks for one each second."""

LAST_REPORT_TIMEOUT_S: Final = 0.2
"""How long closing waits for the last report to be answered, seconds."""

_NO_FRAMES: Final[Frames] = ()


class _Batch(NamedTuple):
    frames: Frames
    known_only: bool


class SessionLostError(Exception):
    """The session ended, or couldn't be opened. Its leases are dropped."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code


class Session:
    """An open session. Only one thread at a time may ask.

    Args:
        stub: opens the call.
        leases: granted and dropped as the sidecar says; all are dropped when the session ends.
        lock: held while the leases are used.
        report_deadline: seconds within which the sidecar must answer a report, otherwise the session ends.
        wait_for_ready: whether the first request waits for a connection instead of failing without one.
    """

    def __init__(
        self,
        stub: RateLimitServiceStub,
        leases: Leases,
        lock: threading.Lock,
        *,
        report_deadline: float,
        wait_for_ready: bool = False,
    ) -> None:
        self._leases = leases
        self._lock = lock
        self._report_deadline = report_deadline
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        """Batches to send; None at the end."""
        self._answers: queue.SimpleQueue[Answers | SessionLostError] = queue.SimpleQueue()
        self._unanswered: deque[tuple[Frames | None, RealTime]] = deque()
        """The requests that were sent, and when; None for one that only reports."""
        self._lost: SessionLostError | None = None
        self._report_at = _now() + REPORT_S
        self._call = stub.ShouldProcessSession(self._requests(), wait_for_ready=wait_for_ready)
        # A call that is still open would keep the interpreter from ending.
        self._cancel = weakref.finalize(self, self._call.cancel)
        self._receiver = threading.Thread(target=self._receive, name="sidecar-session", daemon=True)
        self._receiver.start()

    @property
    def open(self) -> bool:
        """Whether the session can be asked; its leases hold as long as it can."""
        return self._lost is None

    def ask(self, frames: Frames, timeout: float, *, known_only: bool = False) -> Answers:
        """Asks about frames and waits for the answers. Their leases are granted when this returns.

        Args:
            frames: stream_name and ts of each frame, at most MAX_BATCH, valid by the contract.
            timeout: seconds to wait.
            known_only: whether frames of a stream whose limit the sidecar has never read are left undecided.

        Raises:
            SessionLostError: The session is lost, possibly because the answers took too long.
        """
        if self._lost is not None:
            raise self._lost
        self._batches.put(_Batch(frames, known_only))
        answers: Answers | SessionLostError
        try:
            answers = self._answers.get(timeout=timeout)
        except queue.Empty:
            answers = SessionLostError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:g} s")
            self._end(answers)
        if isinstance(answers, SessionLostError):
            raise answers
        return answers

    def close(self) -> None:
        """Sends the last report and ends the session."""
        self._batches.put(None)
        self._receiver.join(LAST_REPORT_TIMEOUT_S)
        self._end(SessionLostError(grpc.StatusCode.CANCELLED, "closed"))

    def _requests(self) -> Iterator[pb.ShouldProcessSessionRequest]:
        """Yields the requests to send. gRPC iterates over them in a thread of its own."""
        while self._lost is None:
            try:
                batch = self._batches.get(timeout=max(0.0, self._report_at - _now()))
                closing = batch is None
            except queue.Empty:
                batch, closing = None, False
            frames, known_only = batch or (None, False)
            now = _now()
            reports = self._reports(now) if closing or now >= self._report_at else []
            while frames is not None or reports:
                self._unanswered.append((frames, now))
                yield pb.ShouldProcessSessionRequest(
                    stream_names=[name for name, _ in frames or ()],
                    ts=[ts for _, ts in frames or ()],
                    leased_denials=reports,
                    known_limits_only=known_only,
                )
                frames, reports = None, self._reports(now) if closing else []
            if closing:
                return

    def _reports(self, now: RealTime) -> list[pb.LeasedDenials]:
        """Returns the reports that are due. Ends the session instead if an earlier request is still unanswered."""
        try:
            hangs = self._unanswered[0][1] < now - self._report_deadline
        except IndexError:
            hangs = False
        if hangs:
            details = f"no answer within {self._report_deadline:g} s"
            self._end(SessionLostError(grpc.StatusCode.DEADLINE_EXCEEDED, details))
        with self._lock:
            # What a lost session didn't report, the next one reports.
            denials = self._leases.take_denials(now, MAX_BATCH) if self._lost is None else []
        self._report_at = RealTime(now + (REPORT_S if len(denials) < MAX_BATCH else 0.0))
        return [to_report(each) for each in denials]

    def _receive(self) -> None:
        try:
            for response in self._call:
                if response.HasField("answers"):
                    self._take_answers(response.answers)
                else:
                    self._drop_leases(response.dropped_leases)
            lost = SessionLostError(grpc.StatusCode.UNAVAILABLE, "the sidecar ended the session")
        except grpc.RpcError as error:
            lost = SessionLostError(error.code(), error.details() or "")
        self._end(lost)

    def _take_answers(self, columns: pb.SessionAnswers) -> None:
        frames, _ = self._unanswered.popleft() if self._unanswered else (_NO_FRAMES, None)
        answers = read_answers(columns, len(frames or ()))
        if answers is None or len(columns.last_ts) != len(columns.reasons):
            self._end(SessionLostError(grpc.StatusCode.UNKNOWN, "the answers don't fit the request"))
            return
        if frames is None:  # the answer to a report
            return
        last_ts = cast(Sequence[StreamTime], columns.last_ts[:])
        with self._lock:
            if self._lost is not None:
                return
            for (name, _), fps, last, due in zip(frames, answers.fps, last_ts, answers.next_ts, strict=True):
                self._leases.grant(name, fps=fps, last_ts=last, next_ts=due)
        self._answers.put(answers)

    def _drop_leases(self, revocation: pb.DroppedLeases) -> None:
        with self._lock:
            if self._lost is None:
                if revocation.all_streams:
                    self._leases.drop_all()
                self._leases.drop(revocation.stream_names)

    def _end(self, lost: SessionLostError) -> None:
        with self._lock:
            if self._lost is not None:
                return
            self._lost = lost
            self._leases.drop_all()
        self._answers.put(lost)
        self._batches.put(None)
        self._cancel()


def _now() -> RealTime:
    return RealTime(time.monotonic())
