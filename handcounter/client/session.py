"""The client's end of a session: questions, answers and dropped leases over one long call.

Two threads serve it. gRPC's own takes requests out of a queue, and wakes up by itself to report what leases denied.
The other takes what the sidecar sends, in its order: so a lease is granted, and dropped, in the order of the decisions.
The threads end with the session, and are no reason for a program to stay.
"""

import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, cast

import grpc

from handcounter.client.leases import Denials, Leases
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

MAX_REPORTS: Final = 4096
"""The most streams that the contract allows in one report."""

REPORT_S: Final = 0.5
"""The contract asks for a report each second."""

GOODBYE_S: Final = 0.2
"""How long the last report may take."""

Frames = Sequence[tuple[str, float]]

_REASONS: Final = frozenset(int(reason) for reason in Reason)


class SessionLostError(Exception):
    """The session ended, or was never there. Its leases are dropped."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code


class Columns(Protocol):
    """The answers that a call with columns gives."""

    @property
    def should_process(self) -> Sequence[bool]:
        """Whether each frame may be processed: if it was admitted, and always where the sidecar is in the shadow."""

    @property
    def reasons(self) -> Sequence[int]:
        """Why each frame was admitted or denied."""

    @property
    def fps(self) -> Sequence[float]:
        """The limit in force for each frame's stream."""

    @property
    def next_ts(self) -> Sequence[float]:
        """The earliest ts that would be admitted after it."""


def fits(answers: Columns, frames: int) -> bool:
    """Whether there is an answer that makes sense for each frame; the sidecar may be another's."""
    return (
        len(answers.should_process) == len(answers.reasons) == len(answers.fps) == len(answers.next_ts) == frames
        and _REASONS.issuperset(answers.reasons)
        and all(fps >= 0.0 for fps in answers.fps)  # neither negative nor NaN
    )


def to_report(denials: Denials) -> pb.LeasedDenials:
    """What was denied on one stream, as the contract has it."""
    return pb.LeasedDenials(
        stream_name=denials.stream_name,
        too_soon=denials.frames[Reason.TOO_SOON],
        paused=denials.frames[Reason.PAUSED],
        duplicate=denials.frames[Reason.DUPLICATE],
        late=denials.frames[Reason.LATE],
        last_ts=denials.last_ts,
        last_reason=cast(pb.Reason, denials.last_reason),
        age_seconds=denials.age,
    )


class Session:
    """An open session. Questions come from one thread at a time.

    Args:
        stub: opens the call.
        leases: are granted and dropped as the sidecar says, and dropped when the session ends.
        lock: is held while the leases are touched.
        overdue: after so many seconds a report must have been answered, else the sidecar hangs.
        wait_for_ready: whether the first question waits for a connection, instead of failing without one.
    """

    def __init__(
        self,
        stub: RateLimitServiceStub,
        leases: Leases,
        lock: threading.Lock,
        *,
        overdue: float,
        wait_for_ready: bool = False,
    ) -> None:
        self._leases = leases
        self._lock = lock
        self._overdue = overdue
        self._questions: queue.SimpleQueue[Frames | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[pb.SessionAnswers | SessionLostError] = queue.SimpleQueue()
        self._unanswered: deque[tuple[Frames | None, float]] = deque()
        """What was sent and when; no frames at all for a report."""
        self._lost: SessionLostError | None = None
        self._report_at = time.monotonic() + REPORT_S
        self._call = stub.ShouldProcessSession(self._requests(), wait_for_ready=wait_for_ready)
        # A call that is still open would hold up the interpreter's exit.
        self._cancel = weakref.finalize(self, self._call.cancel)
        self._receiver = threading.Thread(target=self._receive, name="sidecar-session", daemon=True)
        self._receiver.start()

    @property
    def open(self) -> bool:
        """Whether questions may be asked; leases hold while it is."""
        return self._lost is None

    def ask(self, frames: Frames, timeout: float) -> pb.SessionAnswers:
        """Asks about frames, as many as the contract allows; the leases are granted when this returns.

        Raises:
            SessionLostError: The session is over, also because the answer took too long.
        """
        if self._lost is not None:
            raise self._lost
        self._questions.put(frames)
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            answer = SessionLostError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:g} s")
            self._end(answer)
        if isinstance(answer, SessionLostError):
            raise answer
        return answer

    def close(self) -> None:
        """Sends the last report and ends the session."""
        self._questions.put(None)
        self._receiver.join(GOODBYE_S)
        self._end(SessionLostError(grpc.StatusCode.CANCELLED, "closed"))

    def _requests(self) -> Iterator[pb.ShouldProcessSessionRequest]:
        while self._lost is None:
            try:
                frames = self._questions.get(timeout=max(0.0, self._report_at - time.monotonic()))
                closing = frames is None
            except queue.Empty:
                frames, closing = None, False
            now = time.monotonic()
            reports = self._reports(now) if closing or now >= self._report_at else []
            while frames is not None or reports:
                self._unanswered.append((frames, now))
                yield pb.ShouldProcessSessionRequest(
                    stream_names=[name for name, _ in frames or ()],
                    ts=[ts for _, ts in frames or ()],
                    leased_denials=reports,
                )
                frames, reports = None, self._reports(now) if closing else []
            if closing:
                return

    def _reports(self, now: float) -> list[pb.LeasedDenials]:
        try:
            hangs = self._unanswered[0][1] < now - self._overdue
        except IndexError:
            hangs = False
        if hangs:
            self._end(SessionLostError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {self._overdue:g} s"))
        with self._lock:
            # What a session that is over didn't report, the next one does.
            denials = self._leases.take_denials(now, MAX_REPORTS) if self._lost is None else []
        self._report_at = now + (REPORT_S if len(denials) < MAX_REPORTS else 0.0)
        return [to_report(each) for each in denials]

    def _receive(self) -> None:
        try:
            for response in self._call:
                if response.HasField("answers"):
                    self._answered(response.answers)
                else:
                    self._dropped(response.dropped_leases)
            lost = SessionLostError(grpc.StatusCode.UNAVAILABLE, "the sidecar ended the session")
        except grpc.RpcError as error:
            lost = SessionLostError(error.code(), error.details() or "")
        self._end(lost)

    def _answered(self, answers: pb.SessionAnswers) -> None:
        frames, _ = self._unanswered.popleft() if self._unanswered else ((), 0.0)
        if not fits(answers, len(frames or ())) or len(answers.last_ts) != len(answers.reasons):
            self._end(SessionLostError(grpc.StatusCode.UNKNOWN, "its answer doesn't fit the question"))
        if frames is None or self._lost is not None:
            return
        columns = zip(frames, answers.fps, answers.last_ts, answers.next_ts, strict=True)
        with self._lock:
            if self._lost is None:
                for (name, _), fps, last_ts, next_ts in columns:
                    self._leases.grant(name, fps=fps, last_ts=last_ts, next_ts=next_ts)
        self._answers.put(answers)

    def _dropped(self, dropped: pb.DroppedLeases) -> None:
        with self._lock:
            if self._lost is None:
                if dropped.all_streams:
                    self._leases.drop_all()
                self._leases.drop(dropped.stream_names)

    def _end(self, lost: SessionLostError) -> None:
        with self._lock:
            if self._lost is not None:
                return
            self._lost = lost
            self._leases.drop_all()
        self._answers.put(lost)
        self._questions.put(None)
        self._cancel()
