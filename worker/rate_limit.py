"""The worker's side of the rate limit: asks the sidecar, and paces alone while there is none.

This is the one place that decides what happens without a sidecar:

- It can't be reached, or doesn't answer within the deadline: the batch in hand and all that follow are decided here, by
  the same rule (sidecar/schedule.py), for each stream at the fps that it was told last, else at --fps; so a paused
  stream stays paused. A thread looks for the sidecar until it answers, so that a dead or frozen one costs no batch
  more than the one deadline. Both changes are logged once.
- It answers but refuses (a foreign or older server): that batch is decided here and the next one is asked again. Each
  kind of refusal is logged once.

The timing of each stream goes on where the sidecar's answers left it, so losing the sidecar costs no frame and gives
none away. Only a sidecar that was restarted starts anew, with one frame of each stream.
"""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1.rate_limit_pb2_grpc import RateLimitServiceStub
from sidecar.schedule import TOLERANCE_S, Reason, Schedule, decide

logger = logging.getLogger(__name__)

MAX_BATCH = 4096
"""The most frames that the contract allows in one call."""

PROBE_INTERVAL_S = 0.2
"""How often a lost sidecar is looked for: with the channel's own backoff it is found within a second of its return."""

CHANNEL_OPTIONS = [
    # The default backs off to two minutes and took 3.6 s to find a sidecar that was restarted; this takes 0.5 s.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # The sidecar is in the same pod: never through a proxy.
    ("grpc.enable_http_proxy", 0),
]

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})

_REASONS = {int(reason): reason for reason in Reason}


class _Stream(NamedTuple):
    """What is known of a stream: enough to go on without the sidecar."""

    fps: float
    schedule: Schedule | None


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
    ) -> None:
        """Opens a channel, which connects by itself.

        Args:
            address: the sidecar's HOST:PORT or unix:/path.
            default_fps: what a stream is paced at while it was never told anything.
            deadline: the most that a call may take, seconds.
            max_streams: of how many streams the last answers are kept; the longest silent are forgotten.
            on_decided: is told after each batch who decided ("sidecar" or "local") and how many frames.
        """
        self._address = address
        self._default_fps = default_fps
        self._deadline = deadline
        self._max_streams = max_streams
        self._on_decided = on_decided
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = RateLimitServiceStub(self._channel)
        self._streams: dict[str, _Stream] = {}  # the longest silent first
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
        """Decides frames, each a stream_name and a ts that the contract accepts, in their order. Never raises."""
        reasons: list[Reason] = []
        for start in range(0, len(frames), MAX_BATCH):
            batch = frames[start : start + MAX_BATCH]
            answer = None if self.away else self._ask(batch)
            reasons += self._local(batch) if answer is None else self._learn(batch, answer)
            self._on_decided("local" if answer is None else "sidecar", len(batch))
        self._forget(len(self._streams) - self._max_streams)
        return reasons

    def close(self) -> None:
        """Closes the channel and ends the search for a lost sidecar."""
        self._closed.set()
        self._channel.close()

    def _ask(self, batch: Sequence[tuple[str, float]]) -> pb.ShouldProcessBatchResponse | None:
        request = pb.ShouldProcessBatchRequest(stream_names=[name for name, _ in batch], ts=[ts for _, ts in batch])
        try:
            answer = self._stub.ShouldProcessBatch(request, timeout=self._deadline)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code in _AWAY:
                self._lose(f"{code.name}: {details}")
            else:
                self._refused(code, f"{code.name}: {details}")
            return None
        if _fits(answer, len(batch)):
            return answer
        self._refused("malformed", "its answer doesn't fit the question")
        return None

    def _learn(self, batch: Sequence[tuple[str, float]], answer: pb.ShouldProcessBatchResponse) -> list[Reason]:
        """Takes the answers over, and reads out of them the schedule with which the sidecar goes on."""
        now = time.monotonic()
        streams = self._streams
        reasons = [_REASONS[number] for number in answer.reasons]
        for (name, ts), reason, fps, next_ts in zip(batch, reasons, answer.fps, answer.next_ts, strict=True):
            known = streams.pop(name, None)
            schedule = known.schedule if known else None
            if reason is Reason.ADMITTED:
                schedule = Schedule(_slot(next_ts, fps, ts), ts, now)
            elif schedule is None and math.isfinite(next_ts):
                slot = _slot(next_ts, fps, ts)  # admitted before this worker's time: its ts can't be far from the slot
                schedule = Schedule(slot, slot, now)
            streams[name] = _Stream(fps, schedule)
        return reasons

    def _local(self, batch: Sequence[tuple[str, float]]) -> list[Reason]:
        now = time.monotonic()
        reasons = []
        for name, ts in batch:
            stream = self._streams.pop(name, None) or _Stream(self._default_fps, None)
            reason, schedule = decide(stream.schedule, ts, stream.fps, now)
            self._streams[name] = _Stream(stream.fps, schedule)
            reasons.append(reason)
        return reasons

    def _forget(self, number: int) -> None:
        for name in list(itertools.islice(self._streams, max(0, number))):
            del self._streams[name]

    def _refused(self, kind: object, message: str) -> None:
        if kind not in self._refusals:
            self._refusals.add(kind)
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
        """Asks about no frame; whatever a server says to that, it is there."""
        try:
            self._stub.ShouldProcessBatch(pb.ShouldProcessBatchRequest(), timeout=timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code() not in _AWAY
        except ValueError:  # the channel was closed meanwhile
            return False
        return True


def _fits(answer: pb.ShouldProcessBatchResponse, frames: int) -> bool:
    """Whether there is an answer that makes sense for each frame; the sidecar may be another's."""
    return (
        len(answer.reasons) == len(answer.fps) == len(answer.next_ts) == frames
        and all(number in _REASONS for number in answer.reasons)
        and all(fps >= 0.0 for fps in answer.fps)  # neither negative nor NaN
    )


def _slot(next_ts: float, fps: float, ts: float) -> float:
    """The slot that :func:`sidecar.schedule.next_ts` was told from; the admitted ts where that can't be."""
    slot = next_ts - 1.0 / fps + TOLERANCE_S if fps > 0.0 else next_ts
    return slot if math.isfinite(slot) else ts
