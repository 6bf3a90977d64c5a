"""The worker's side of the rate limit: asks the sidecar where it must, and paces alone while there is none.

Most frames need no question: with each answer comes a lease (see leases), by which the frames that are certain to be
denied are denied here, until the sidecar says that something changed. Any other Python program may use it too; it
needs this package and no settings::

    limiter = RateLimiter("127.0.0.1:50051", default_fps=1.0)
    for stream_name, ts, picture in frames():
        (reason,) = limiter.decide([(stream_name, ts)])
        if reason is Reason.ADMITTED:
            work_on(picture)
    limiter.close()

This is the one place that decides what happens without a sidecar:

- It can't be reached, or doesn't answer within the deadline: the batch in hand and all that follow are decided here, by
  the same rule (handcounter/pacing/schedule.py), for each stream at the fps that it was told last, else at --fps; so a paused
  stream stays paused. A thread looks for the sidecar until it answers, so that a dead or frozen one costs no batch
  more than the one deadline. Both changes are logged once.
- It answers but refuses (a foreign server): that batch is decided here and the next one is asked again. Each
  kind of refusal is logged once.
- It has no sessions (an older server), or no room for one: each batch is a call of its own, without leases, and now and
  then a session is asked for again.

The timing of each stream goes on where the sidecar's answers left it, so losing the sidecar costs no frame and gives
none away. Only a sidecar that was restarted starts anew, with one frame of each stream.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import grpc

from handcounter.client.leases import Leases
from handcounter.client.local_pacing import LocalPacing
from handcounter.client.session import Columns, Session, SessionLostError, fits
from handcounter.pacing.schedule import Reason, stream_name_error, ts_error
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub

logger = logging.getLogger(__name__)

MAX_BATCH = 4096
"""The most frames that the contract allows in one call."""

PROBE_INTERVAL_S = 0.2
"""How often a lost sidecar is looked for: with the channel's own backoff it is found within a second of its return."""

SESSION_RETRY_S = 10.0
"""How often a sidecar that refuses a session is asked for one."""

CHANNEL_OPTIONS = [
    # The default backs off to two minutes and took 3.6 s to find a sidecar that was restarted; this takes 0.5 s.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # The sidecar is in the same pod: never through a proxy.
    ("grpc.enable_http_proxy", 0),
]

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
_NO_SESSION = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED})

_REASONS = {int(reason): reason for reason in Reason}


def tls_credentials(ca: Path, certificate: Path | None = None, key: Path | None = None) -> grpc.ChannelCredentials:
    """Reads PEM files: who may sign the sidecar's certificate, and what to show to one that asks for a certificate."""
    return grpc.ssl_channel_credentials(
        ca.read_bytes(), key.read_bytes() if key else None, certificate.read_bytes() if certificate else None
    )


class RateLimiter:
    """Decides batches of frames. For one thread at a time, but for ``away``."""

    def __init__(
        self,
        address: str,
        *,
        default_fps: float,
        deadline: float = 0.25,
        max_streams: int = 100_000,
        on_decided: Callable[[str, int], None] = lambda _by, _number: None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Opens a channel, which connects by itself.

        Args:
            address: the sidecar's HOST:PORT or unix:/path.
            default_fps: what a stream is paced at while it was never told anything.
            deadline: the most that a call may take, seconds.
            max_streams: of how many streams the last answers are kept; the longest unasked are forgotten.
            on_decided: is told after each batch who decided ("sidecar", "lease" or "local") and how many frames.
            credentials: for a sidecar that serves TLS, as :func:`tls_credentials` makes them; None: plain text.
        """
        self._address = address
        self._default_fps = default_fps
        self._deadline = deadline
        self._on_decided = on_decided
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self._stub = RateLimitServiceStub(self._channel)
        self._local = LocalPacing(default_fps, max_streams)
        self._leases = Leases(max_streams)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._session_from = 0.0
        self._refusals: set[object] = set()
        self._lost_at: float | None = None
        self._closed = threading.Event()

    @property
    def away(self) -> bool:
        """Whether decisions are made here because the sidecar is out of reach."""
        return self._lost_at is not None

    def wait_ready(self, timeout: float) -> bool:
        """Waits so long for the sidecar, as for one that starts together with this worker."""
        return self._answers(timeout)

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides frames, each a stream_name and a ts in seconds, in their order; after :meth:`close` alone.

        Raises:
            ValueError: the contract doesn't accept a frame, the index of which it names; none was asked about.
        """
        with self._lock:
            reasons, open_ones = self._leases.deny(frames, time.monotonic())
        for index in open_ones:
            stream_name, ts = frames[index]
            if error := stream_name_error(stream_name) or ts_error(ts):
                raise ValueError(f"frame {index}: {error}")
        if len(open_ones) < len(frames):
            self._on_decided("lease", len(frames) - len(open_ones))
        for start in range(0, len(open_ones), MAX_BATCH):
            part = open_ones[start : start + MAX_BATCH]
            for index, reason in zip(part, self._decide([frames[index] for index in part]), strict=True):
                reasons[index] = reason
        return cast(list[Reason], reasons)

    def close(self) -> None:
        """Reports what is still to be reported, closes the channel and ends the search for a lost sidecar."""
        self._closed.set()
        if self._session is not None:
            self._session.close()
        self._channel.close()

    def _decide(self, batch: Sequence[tuple[str, float]]) -> list[Reason]:
        answers = None if self.away or self._closed.is_set() else self._ask(batch)
        if answers is None:
            reasons = self._local.decide(batch, time.monotonic())
        else:
            told = [_REASONS[number] for number in answers.reasons]
            self._local.learn(batch, told, answers.fps, answers.next_ts, time.monotonic())
            # A sidecar in the shadow lets through what it would deny, and tells why it would.
            verdicts = zip(answers.should_process, told, strict=True)
            reasons = [Reason.ADMITTED if let_through else reason for let_through, reason in verdicts]
        self._on_decided("local" if answers is None else "sidecar", len(batch))
        return reasons

    def _ask(self, batch: Sequence[tuple[str, float]]) -> Columns | None:
        """The sidecar's answers; None where they are to be found here."""
        try:
            return self._asked(batch)
        except ValueError:
            if self._closed.is_set():  # meanwhile, and its channel with it
                return None
            raise

    def _asked(self, batch: Sequence[tuple[str, float]]) -> Columns | None:
        if time.monotonic() >= self._session_from:
            if self._session is None or not self._session.open:
                self._session = self._open()
            try:
                return self._session.ask(batch, self._deadline)
            except SessionLostError as error:
                if error.code not in _NO_SESSION:
                    self._failed(error.code, str(error))
                    return None
                self._no_session(error)
        request = pb.ShouldProcessBatchRequest(stream_names=[name for name, _ in batch], ts=[ts for _, ts in batch])
        try:
            answers = self._stub.ShouldProcessBatch(request, timeout=self._deadline)
        except grpc.RpcError as error:
            self._failed(error.code(), f"{error.code().name}: {error.details()}")
            return None
        if fits(answers, len(batch)):
            return answers
        self._failed(grpc.StatusCode.UNKNOWN, "its answer doesn't fit the question")
        return None

    def _open(self, **options: Any) -> Session:
        return Session(self._stub, self._leases, self._lock, overdue=self._deadline, **options)

    def _no_session(self, error: SessionLostError) -> None:
        self._session_from = time.monotonic() + SESSION_RETRY_S
        if error.code not in self._refusals:
            self._refusals.add(error.code)
            logger.warning("the sidecar %s refuses a session: asking about each batch (%s)", self._address, error)

    def _failed(self, code: grpc.StatusCode, message: str) -> None:
        if code in _AWAY:
            self._lose(message)
        elif code not in self._refusals:
            self._refusals.add(code)
            logger.error("the sidecar %s refuses: pacing such batches here (%s)", self._address, message)

    def _lose(self, message: str) -> None:
        self._lost_at = time.monotonic()
        logger.warning(
            "the sidecar %s is away: pacing here at each stream's last fps, else %g (%s)",
            self._address,
            self._default_fps,
            message,
        )
        threading.Thread(target=self._search, name="sidecar-search", daemon=True).start()

    def _search(self) -> None:
        while not self._closed.is_set():
            if self._answers(self._deadline):
                lost_at, self._lost_at = self._lost_at, None
                logger.info("the sidecar %s is back after %.1f s", self._address, time.monotonic() - (lost_at or 0.0))
                return
            self._closed.wait(PROBE_INTERVAL_S)

    def _answers(self, timeout: float) -> bool:
        """Opens a session and asks about no frame; whatever a server says to that, it is there."""
        try:
            session = self._open(wait_for_ready=True)
            session.ask((), timeout)
        except SessionLostError as error:
            return error.code not in _AWAY
        except ValueError:  # the channel was closed meanwhile
            return False
        self._session = session
        return True
