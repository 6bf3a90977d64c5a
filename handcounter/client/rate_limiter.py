"""The rate limiter of a Python program: asks the sidecar about frames, and decides alone while it is unreachable.

Most frames cost no call. With each answer comes a lease (see leases), by which frames that are certain to be denied are
denied here, until the sidecar says that something changed.

This is the one place that decides what happens without a sidecar:

- It is unreachable, or doesn't answer within the deadline: this batch and all that follow are decided here, by the same
  rule (handcounter/pacing/schedule.py) and each stream's last known limit, or ``default_fps`` for a stream without
  one; so a paused stream stays paused. (:meth:`RateLimiter.decide_known` leaves frames of a stream without one undecided,
  for programs that must not process a stream that may be paused.) A thread looks for the sidecar until it answers, so
  that a dead or frozen sidecar delays only one batch, by the deadline. Both changes are logged, once each; of losses
  that follow within seconds only the number is (handcounter/client/loss_log.py).
- It rejects a batch (a foreign server): that batch is decided here, and the next one is asked about again. Each kind of
  rejection is logged once.
- It has no sessions (an older server), or no room for another: each batch is a call of its own, without leases, and
  after SESSION_RETRY_S a session is tried again.

Each stream's schedule continues from the sidecar's last answers, so that losing the sidecar neither costs a frame nor
admits one too many. Only a sidecar that restarted begins with new schedules, and so admits one frame of each stream.
"""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import grpc

from handcounter.client.channel import open_channel
from handcounter.client.leases import Leases
from handcounter.client.local_pacing import LocalPacing
from handcounter.client.loss_log import LossLog
from handcounter.client.session import Session, SessionLostError
from handcounter.client.wire import Answers, read_answers
from handcounter.pacing.bounds import MAX_BATCH, Frames
from handcounter.pacing.schedule import Reason, stream_name_error, ts_error
from handcounter.pacing.times import RealTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

logger = logging.getLogger(__name__)

SEARCH_INTERVAL_S: Final = 0.2
"""Seconds between two searches for an unreachable sidecar; with the channel's backoff it is found within a second."""

SESSION_RETRY_S: Final = 10.0
"""Seconds until a sidecar that refused a session is asked for one again."""

_UNREACHABLE: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
_NO_SESSION: Final = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED})


class RateLimiter:
    """Decides which frames of which streams may be processed.

    Use it from one thread at a time; only ``sidecar_unreachable`` is thread-safe. As a context manager it closes at
    the end.
    """

    def __init__(
        self,
        address: str,
        *,
        default_fps: float,
        deadline: float = 0.25,
        max_streams: int = 100_000,
        on_decided: Callable[[str, int], None] = lambda _by, _frames: None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Opens a channel, which connects in the background.

        Args:
            address: HOST:PORT or unix:/path of the sidecar.
            default_fps: while the sidecar is unreachable, the limit of streams that no answer was about, frames per
                second.
            deadline: the longest time to wait for the answers to a batch, seconds.
            max_streams: how many streams are remembered; beyond that, those asked about longest ago are forgotten.
            on_decided: called after each batch with the number of frames that were decided by "lease", by "sidecar"
                or by "local".
            credentials: for a sidecar with TLS, see :func:`handcounter.client.tls_credentials`; None: plain text.
        """
        self._address = address
        self._default_fps = default_fps
        self._deadline = deadline
        self._on_decided = on_decided
        self._channel = open_channel(address, credentials)
        self._stub = RateLimitServiceStub(self._channel)
        self._local = LocalPacing(default_fps, max_streams)
        self._leases = Leases(max_streams)
        self._leases_lock = threading.Lock()
        self._session: Session | None = None
        self._no_session_until = 0.0
        self._logged: set[grpc.StatusCode] = set()
        self._unreachable_since: float | None = None
        self._losses = LossLog()
        # Held over a change and its log line, so that no thread sees one without the other, and the lines are in order.
        # Reentrant for log handlers that look at the limiter.
        self._reachability = threading.RLock()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    @property
    def sidecar_unreachable(self) -> bool:
        """Whether frames are decided locally because the sidecar is unreachable."""
        with self._reachability:
            return self._unreachable_since is not None

    def wait_ready(self, timeout: float) -> bool:
        """Waits at most so many seconds until the sidecar answers; returns whether it does.

        For a sidecar that starts together with this program. It isn't needed before :meth:`decide`.
        """
        return self._connect(timeout)

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides a batch of frames in their order. After :meth:`close` all are decided locally.

        Args:
            frames: stream_name and ts of each frame. The name has 1 to 256 characters; the ts is the capture time by
                the frame's own clock, seconds in [0, 1e11].

        Returns:
            The reason for each frame; only those with ADMITTED may be processed.

        Raises:
            ValueError: A frame isn't valid; the message names its index. The sidecar wasn't asked about any frame.
        """
        return self._decide_batch(frames, False)  # type: ignore[return-value]  # all are decided

    def decide_known(self, frames: Sequence[tuple[str, float]]) -> list[Reason | None]:
        """Decides a batch as :meth:`decide` does, except for frames whose limit isn't known.

        Args:
            frames: as for :meth:`decide`.

        Returns:
            The reason for each frame. None, and nothing is decided, if the sidecar has never told the limit of the frame's
            stream, and can't be asked or has never read it: the stream may be paused. Ask again, while
            ``sidecar_unreachable`` is true not before it is false.

        Raises:
            ValueError: as for :meth:`decide`.
        """
        return self._decide_batch(frames, True)

    def told_fps(self, stream_name: str) -> float | None:
        """Returns the last known limit of a stream, frames per second; None if the sidecar never told it."""
        return self._local.told_fps(stream_name)

    def limits(self, stream_names: Sequence[str]) -> list[float | None]:
        """Returns the limits of streams without deciding a frame, frames per second.

        Asks the sidecar, whatever it told before. If it can't be asked, these are the last known limits.

        Args:
            stream_names: valid by the contract.

        Returns:
            For each stream the limit in force; infinity in shadow mode; None if the sidecar never told it, and can't be
            asked or has never read it.
        """
        limits: list[float | None] = []
        for start in range(0, len(stream_names), MAX_BATCH):
            names = stream_names[start : start + MAX_BATCH]
            answers = None if self._alone else self._dry_run(names)
            if answers is None:
                limits += map(self.told_fps, names)
                continue
            for place, (name, fps, may_process) in enumerate(
                zip(names, answers.fps, answers.should_process, strict=True)
            ):
                if place in answers.unread and not may_process:
                    limits.append(self.told_fps(name))
                    continue
                self._local.learn_limit(name, fps)
                limits.append(math.inf if may_process and fps == 0.0 else fps)
        return limits

    def which_are_paused(self, stream_names: Sequence[str]) -> set[str]:
        """Returns those streams that are paused, without deciding a frame.

        Asks the sidecar, as :meth:`limits` does, but only about streams without a lease: it revokes a lease when it learns of
        a pause.

        Args:
            stream_names: valid by the contract.
        """
        with self._leases_lock:
            paused, unknown = self._leases.are_paused(stream_names)
        return paused.union(name for name, fps in zip(unknown, self.limits(unknown), strict=True) if fps == 0.0)

    def _decide_batch(self, frames: Sequence[tuple[str, float]], known_only: bool) -> list[Reason | None]:
        # Under a lease, a call of cast or RealTime would take a tenth of the time of a single frame.
        batch: Frames = frames  # type: ignore[assignment]
        with self._leases_lock:
            reasons, uncovered = self._leases.deny(batch, time.monotonic())  # type: ignore[arg-type]
        for index in uncovered:
            stream_name, ts = batch[index]
            if error := stream_name_error(stream_name) or ts_error(ts):
                raise ValueError(f"frame {index}: {error}")
        if len(uncovered) < len(batch):
            self._on_decided("lease", len(batch) - len(uncovered))
        if not uncovered:
            return reasons
        for start in range(0, len(uncovered), MAX_BATCH):
            part = uncovered[start : start + MAX_BATCH]
            decided = self._decide([batch[index] for index in part], known_only=known_only)
            for index, reason in zip(part, decided, strict=True):
                reasons[index] = reason
        return reasons

    def close(self) -> None:
        """Sends the last report of leased denials, closes the channel and ends the search for the sidecar."""
        self._closed.set()
        if self._session is not None:
            self._session.close()
        self._channel.close()

    @property
    def _alone(self) -> bool:
        return self._unreachable_since is not None or self._closed.is_set()

    def _decide(self, batch: Frames, *, known_only: bool) -> Sequence[Reason | None]:
        """Decides frames that no lease covers."""
        answers = None if self._alone else self._ask(batch, known_only=known_only)
        if answers is None:
            return self._decide_locally(batch, known_only=known_only)
        self._local.learn(batch, answers.reasons, answers.fps, answers.next_ts, _now(), answers.unread)
        # In shadow mode the reason says what would be denied, but every frame may be processed.
        verdicts = zip(answers.should_process, answers.reasons, strict=True)
        reasons = [Reason.ADMITTED if may_process else reason for may_process, reason in verdicts]
        undecided = [place for place, reason in enumerate(reasons) if reason is None] if answers.unread else []
        self._on_decided("sidecar", len(batch) - len(undecided))
        if undecided:  # the sidecar has never read their limits, but may have told them before it was restarted
            local = self._decide_locally([batch[place] for place in undecided], known_only=known_only)
            for place, reason in zip(undecided, local, strict=True):
                reasons[place] = reason
        return reasons

    def _decide_locally(self, batch: Frames, *, known_only: bool) -> Sequence[Reason | None]:
        known = [not known_only or self._local.told_fps(name) is not None for name, _ in batch]
        decided = iter(self._local.decide(list(itertools.compress(batch, known)), _now()))
        self._on_decided("local", sum(known))
        return [next(decided) if is_known else None for is_known in known]

    def _ask(self, batch: Frames, *, known_only: bool) -> Answers | None:
        """Returns the sidecar's answers; None if the batch must be decided locally."""
        try:
            if time.monotonic() >= self._no_session_until:
                try:
                    return self._open_session().ask(batch, self._deadline, known_only=known_only)
                except SessionLostError as error:
                    if error.code not in _NO_SESSION:
                        self._failed(error.code, str(error))
                        return None
                    self._do_without_session(error)
            names, tss = [name for name, _ in batch], [ts for _, ts in batch]
            request = pb.ShouldProcessBatchRequest(stream_names=names, ts=tss, known_limits_only=known_only)
            return self._call(request)
        except ValueError:
            if self._closed.is_set():  # gRPC's error on a channel that was closed in the meantime
                return None
            raise

    def _dry_run(self, stream_names: Sequence[str]) -> Answers | None:
        try:
            request = pb.ShouldProcessBatchRequest(stream_names=stream_names, dry_run=True, known_limits_only=True)
            return self._call(request)
        except ValueError:
            if self._closed.is_set():
                return None
            raise

    def _open_session(self) -> Session:
        if self._session is None or not self._session.open:
            self._session = self._new_session()
        return self._session

    def _new_session(self, *, wait_for_ready: bool = False) -> Session:
        return Session(
            self._stub,
            self._leases,
            self._leases_lock,
            report_deadline=self._deadline,
            wait_for_ready=wait_for_ready,
        )

    def _call(self, request: pb.ShouldProcessBatchRequest) -> Answers | None:
        try:
            response = self._stub.ShouldProcessBatch(request, timeout=self._deadline)
        except grpc.RpcError as error:
            self._failed(error.code(), f"{error.code().name}: {error.details()}")
            return None
        answers = read_answers(response, len(request.stream_names))
        if answers is None:
            self._failed(grpc.StatusCode.UNKNOWN, "the answers don't fit the request")
        return answers

    def _do_without_session(self, error: SessionLostError) -> None:
        self._no_session_until = time.monotonic() + SESSION_RETRY_S
        if error.code not in self._logged:
            self._logged.add(error.code)
            logger.warning(
                "the sidecar refused a session, making a call for each batch",
                extra={"sidecar": self._address, "error": str(error)},
            )

    def _failed(self, code: grpc.StatusCode, error: str) -> None:
        if code in _UNREACHABLE:
            self._lose(error)
        elif code not in self._logged:
            self._logged.add(code)
            logger.error(
                "the sidecar rejected a batch, deciding such batches locally",
                extra={"sidecar": self._address, "error": error},
            )

    def _lose(self, error: str) -> None:
        with self._reachability:
            self._unreachable_since = time.monotonic()
            self._log_losses(self._losses.lost(self._unreachable_since), error)
        threading.Thread(target=self._search, args=(error,), name="sidecar-search", daemon=True).start()

    def _log_losses(self, losses: int, error: str) -> None:
        if losses:
            logger.warning(
                "the sidecar is unreachable, deciding locally at each stream's last known fps",
                extra={
                    "sidecar": self._address,
                    "default_fps": self._default_fps,
                    "error": error,
                    "losses": losses,
                },
            )

    def _search(self, error: str) -> None:
        while not self._closed.is_set():
            if self._connect(self._deadline):
                self._return_to_sidecar()
                return
            with self._reachability:
                self._log_losses(self._losses.due(time.monotonic()), error)
            self._closed.wait(SEARCH_INTERVAL_S)

    def _return_to_sidecar(self) -> None:
        with self._reachability:
            unreachable_s = time.monotonic() - (self._unreachable_since or 0.0)
            # Before the line, which a handler may take as the moment from which the sidecar is asked again.
            self._unreachable_since = None
            if self._losses.returned():
                logger.info(
                    "the sidecar is reachable again",
                    extra={"sidecar": self._address, "unreachable_s": round(unreachable_s, 1)},
                )

    def _connect(self, timeout: float) -> bool:
        """Opens a session and asks about no frame. Any response, even an error, shows that there is a server."""
        try:
            session = self._new_session(wait_for_ready=True)
            session.ask((), timeout)
        except SessionLostError as error:
            return error.code not in _UNREACHABLE
        except ValueError:  # gRPC's error on a channel that was closed in the meantime
            return False
        self._session = session
        return True


def _now() -> RealTime:
    return RealTime(time.monotonic())
