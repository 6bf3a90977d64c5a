"""A steady load on a sidecar, in batches or in a session, which keeps every answer; and the laws of the answers.

with Load(address) as load:
load.wait_for_batches(100)
...
load.check()
"""

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import grpc
from support.waiting import wait_until

from handcounter.client import RateLimiter
from handcounter.pacing.schedule import Reason
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

STREAMS = 200
SOURCE_FPS = 10
"""Of each stream."""
DECISIONS_PER_S = STREAMS * SOURCE_FPS
BATCH = 20
DEADLINE_S = 60.0

CREDIT_FRAMES = 2.5
"""How far a stream may be ahead: in W seconds at most W * fps + 2.5 frames are admitted."""


class Batch(NamedTuple):
    """One call."""

    sent_at: float
    """Seconds on the monotonic clock."""
    took_s: float
    tss: list[float]
    names: list[str]
    answer: pb.ShouldProcessBatchResponse | None
    """None: the call failed."""
    error: str
    asked: bool = True
    """False: leases denied its frames, without a call."""


Ask = Callable[[list[str], list[float]], tuple[pb.ShouldProcessBatchResponse, bool]]
"""Decides frames; returns the answer and whether the sidecar was asked."""


class NotDecidedError(Exception):
    """The sidecar didn't decide."""


def stream_names(prefix: str = "loaded", streams: int = STREAMS) -> list[str]:
    """Returns the stream names of the load."""
    return [f"{prefix}-{number:03}" for number in range(streams)]


class Load:
    """A thread that sends batches at a steady pace. A slow call delays the ones after it; none is skipped.

    Args:
        address: the sidecar's HOST:PORT.
        batch: frames per call; the number of streams is a multiple of it.
        prefix: of the stream names; two loads on one sidecar need different ones.
        streams: how many there are.
    """

    STARTS = 1
    """The number of rounds over which the streams start."""

    def __init__(self, address: str, batch: int = BATCH, prefix: str = "loaded", streams: int = STREAMS) -> None:
        self.batches: list[Batch] = []
        self._address = address
        self._batch = batch
        self._names = stream_names(prefix, streams)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30.0)

    def wait_for_batches(self, count: int) -> None:
        """Waits until this many more batches were answered."""
        aim = len(self.batches) + count
        wait_until(lambda: len(self.batches) >= aim or not self._thread.is_alive(), "more batches are answered")
        assert self._thread.is_alive(), "the load has ended"

    def check(self, most_fps: float) -> None:
        """Asserts the laws: no call failed, and no stream got more than its limit allows at any time."""
        failed = [batch.error for batch in self.batches if batch.answer is None]
        assert not failed, f"{len(failed)} of {len(self.batches)} calls failed, the first: {failed[0]}"
        for name, admitted in self.admitted().items():
            excess = worst_excess(admitted, most_fps)
            assert excess <= CREDIT_FRAMES + 1e-6, f"{name} is {excess:.2f} frames ahead of {most_fps} fps"

    def admitted(self) -> dict[str, list[float]]:
        """Returns the ts of each stream's admitted frames, in the order of the decisions."""
        admitted: dict[str, list[float]] = collections.defaultdict(list)
        for batch in self.batches:
            if batch.answer is not None:
                for name, ts, yes in zip(batch.names, batch.tss, batch.answer.should_process, strict=True):
                    if yes:
                        admitted[name].append(ts)
        return admitted

    def fps_since(self, when: float) -> set[float]:
        """Returns the limits in the answers to calls that were sent after a time of the monotonic clock."""
        return {fps for batch in self.batches if batch.answer and batch.sent_at > when for fps in batch.answer.fps}

    def times_ms(self, since: float, until: float = math.inf) -> list[float]:
        """Returns the durations of the calls that were sent between two times of the monotonic clock, milliseconds."""
        return [batch.took_s * 1e3 for batch in self.batches if batch.asked and since <= batch.sent_at < until]

    def _run(self) -> None:
        with self._asking() as ask:
            due, streams = time.monotonic(), len(self._names)
            for number in self._numbers():
                begun, part = divmod(number * self._batch, streams)
                asked = [
                    name
                    for index, name in enumerate(self._names[part : part + self._batch])
                    if index % self.STARTS <= begun
                ]
                tss = [due] * len(asked)
                answer, error, called = None, "", True
                before = time.monotonic()
                try:
                    answer, called = ask(asked, tss)
                except (grpc.RpcError, NotDecidedError) as failure:
                    error = str(failure)
                self.batches.append(Batch(before, time.monotonic() - before, tss, asked, answer, error, called))
                due = max(due + self._batch / (streams * SOURCE_FPS), time.monotonic() - 0.5)
                time.sleep(max(0.0, due - time.monotonic()))

    def _asking(self) -> AbstractContextManager[Ask]:
        return batch_calls(self._address)

    def _numbers(self) -> Iterator[int]:
        number = 0
        while not self._stop.is_set():
            yield number
            number += 1


class SessionLoad(Load):
    """The same load with the Python client, whose leases deny most frames without a call. Its answers have no fps."""

    STARTS = 5  # if all streams of a batch were due together, four of five batches would need no call

    def _asking(self) -> AbstractContextManager[Ask]:
        return session_calls(self._address)


@contextlib.contextmanager
def batch_calls(address: str) -> Iterator[Ask]:
    """Returns a function that makes one call per batch."""
    with contextlib.closing(grpc.insecure_channel(address)) as channel:
        stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)

        def ask(names: list[str], tss: list[float]) -> tuple[pb.ShouldProcessBatchResponse, bool]:
            request = pb.ShouldProcessBatchRequest(stream_names=names, ts=tss)
            return stub.ShouldProcessBatch(request, timeout=DEADLINE_S), True

        yield ask


@contextlib.contextmanager
def session_calls(address: str) -> Iterator[Ask]:
    """Returns a function that decides in a session with leases."""
    decided: collections.Counter[str] = collections.Counter()
    limiter = RateLimiter(
        address, default_fps=1.0, deadline=DEADLINE_S, on_decided=lambda by, frames: decided.update({by: frames})
    )

    def ask(names: list[str], tss: list[float]) -> tuple[pb.ShouldProcessBatchResponse, bool]:
        decided.clear()
        reasons = limiter.decide(list(zip(names, tss, strict=True)))
        if decided["local"]:
            raise NotDecidedError("the sidecar was out of the client's reach")
        yes = [reason is Reason.ADMITTED for reason in reasons]
        return pb.ShouldProcessBatchResponse(should_process=yes), decided["sidecar"] > 0

    try:
        assert limiter.wait_ready(DEADLINE_S)
        yield ask
    finally:
        limiter.close()


def worst_excess(tss: Iterable[float], fps: float) -> float:
    """Returns how many frames beyond its length times fps any window admitted at most: a token bucket's lowest level."""
    level, worst, before = 0.0, 0.0, -math.inf
    for ts in tss:
        assert ts > before, "two admissions in the wrong order"
        level = max(0.0, level - (ts - before) * fps) + 1.0
        worst, before = max(worst, level), ts
    return worst
