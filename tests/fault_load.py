"""A steady load of batches on a sidecar, which remembers every answer, and the laws that its answers must obey.

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
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import grpc

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc

STREAMS = 200
BATCH = 20
BATCHES_PER_S = 100
"""2,000 decisions a second; each stream sends at 10 fps."""

CREDIT_FRAMES = 2.5
"""What a stream may be ahead by: in W seconds at most W * fps + 2.5 frames are admitted."""


class Batch(NamedTuple):
    """One call."""

    sent_at: float
    """By the monotonic clock, seconds."""
    took_s: float
    tss: list[float]
    names: list[str]
    answer: pb.ShouldProcessBatchResponse | None
    """None: the call failed."""
    error: str


def stream_names() -> list[str]:
    """The streams of the load."""
    return [f"loaded-{number:03}" for number in range(STREAMS)]


class Load:
    """A thread that sends batches at a steady pace. A call that is slow delays the ones after it; none is left out.

    Args:
        address: of the sidecar, HOST:PORT.
    """

    def __init__(self, address: str) -> None:
        self.batches: list[Batch] = []
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30.0)

    def wait_for_batches(self, count: int) -> None:
        """Waits until so many more batches were answered."""
        aim = len(self.batches) + count
        give_up_at = time.monotonic() + 60.0
        while len(self.batches) < aim:
            assert time.monotonic() < give_up_at, "the load does not move on"
            assert self._thread.is_alive(), "the load ended"
            time.sleep(0.01)

    def check(self, most_fps: float) -> None:
        """Asserts the laws: no call failed, and no stream got more than its limit allows at any time."""
        failed = [batch.error for batch in self.batches if batch.answer is None]
        assert not failed, f"{len(failed)} of {len(self.batches)} calls failed, the first: {failed[0]}"
        for name, admitted in self.admitted().items():
            excess = worst_excess(admitted, most_fps)
            assert excess <= CREDIT_FRAMES + 1e-6, f"{name} is {excess:.2f} frames ahead of {most_fps} fps"

    def admitted(self) -> dict[str, list[float]]:
        """The ts of each stream's admitted frames, in the order of the decisions."""
        admitted: dict[str, list[float]] = collections.defaultdict(list)
        for batch in self.batches:
            if batch.answer is not None:
                for name, ts, yes in zip(batch.names, batch.tss, batch.answer.should_process, strict=True):
                    if yes:
                        admitted[name].append(ts)
        return admitted

    def fps_since(self, when: float) -> set[float]:
        """The limits told by calls sent after a time of the monotonic clock."""
        return {fps for batch in self.batches if batch.answer and batch.sent_at > when for fps in batch.answer.fps}

    def times_ms(self, since: float, until: float = math.inf) -> list[float]:
        """How long the calls took that were sent in this time of the monotonic clock, milliseconds."""
        return [batch.took_s * 1e3 for batch in self.batches if since <= batch.sent_at < until]

    def _run(self) -> None:
        with contextlib.closing(grpc.insecure_channel(self._address)) as channel:
            stub = rate_limit_pb2_grpc.RateLimitServiceStub(channel)
            names = stream_names()
            due = time.monotonic()
            for number in self._numbers():
                part = number * BATCH % STREAMS
                asked = names[part : part + BATCH]
                tss = [due] * BATCH
                before = time.monotonic()
                answer, error = None, ""
                try:
                    answer = stub.ShouldProcessBatch(
                        pb.ShouldProcessBatchRequest(stream_names=asked, ts=tss), timeout=120
                    )
                except grpc.RpcError as failure:
                    error = str(failure)
                self.batches.append(Batch(before, time.monotonic() - before, tss, asked, answer, error))
                due = max(due + 1 / BATCHES_PER_S, time.monotonic() - 0.5)
                time.sleep(max(0.0, due - time.monotonic()))

    def _numbers(self) -> Iterator[int]:
        number = 0
        while not self._stop.is_set():
            yield number
            number += 1


def worst_excess(tss: Iterable[float], fps: float) -> float:
    """The most frames that were admitted in any window beyond its length times fps: a token bucket's lowest level."""
    level, worst, before = 0.0, 0.0, -math.inf
    for ts in tss:
        assert ts > before, "two admissions in the wrong order"
        level = max(0.0, level - (ts - before) * fps) + 1.0
        worst, before = max(worst, level), ts
    return worst
