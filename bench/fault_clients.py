"""The clients of bench.faults, each in its own process, so that work on Redis in the bench doesn't slow the timed calls."""

import gc
import math
import multiprocessing
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NamedTuple

from support.clients.fault_load import Batch, Load, SessionLoad, worst_excess
from support.waiting import wait_until

BATCH = 10
WARM_BATCHES = 200
"""Per second and client."""

KINDS: dict[str, type[Load]] = {"batches": Load, "session": SessionLoad}
"""The prefixes of the stream names of each kind."""


class Call(NamedTuple):
    """One answered call."""

    sent_at: float
    """Seconds on the monotonic clock."""
    took_s: float
    fps: float
    """The limit in the answer, the same for all frames; NaN if they differ."""


class Record(NamedTuple):
    """What one client measured."""

    calls: list[Call]
    """The calls that reached the sidecar."""
    failures: list[str]
    excess: float
    """By how many frames the fastest stream was ahead of the highest limit."""


class Client:
    """A load in its own process. The block begins when the load is warmed up.

    Args:
        kind: one of KINDS.
        address: the sidecar's HOST:PORT.
        limit: the highest fps that any stream was allowed at any time.
    """

    def __init__(self, kind: str, address: str, limit: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_play, args=(kind, address, limit, theirs), daemon=True)

    def __enter__(self) -> "Client":
        self._process.start()
        self._receive()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.join()
        self._pipe.close()

    def finish(self, fps: float) -> Record:
        """Ends the load after the batches saw the last limit; returns the measurements."""
        self._pipe.send(fps)
        record = self._receive()
        assert isinstance(record, Record)
        return record

    def _receive(self) -> object:
        while not self._pipe.poll(0.1):
            assert self._process.is_alive(), "a client died"
        return self._pipe.recv()


def limit_of(batch: Batch) -> float:
    """Returns the limit of all frames of a batch; NaN if they differ or the answer has none."""
    limits = set(batch.answer.fps) if batch.answer else set()
    return limits.pop() if len(limits) == 1 else math.nan


def _play(kind: str, address: str, limit: float, pipe: "Connection[object, object]") -> None:
    gc.disable()  # every answer is kept, so collections would take longer and longer, and they aren't part of a call
    with KINDS[kind](address, BATCH, kind) as load:
        load.wait_for_batches(WARM_BATCHES)
        pipe.send("warm")
        last_fps = pipe.recv()
        wait_until(lambda: kind != "batches" or limit_of(load.batches[-1]) == last_fps, "the last limit")
    answered = [batch for batch in load.batches if batch.answer is not None and batch.asked]
    calls = [Call(batch.sent_at, batch.took_s, limit_of(batch)) for batch in answered]
    failures = [batch.error for batch in load.batches if batch.answer is None]
    pipe.send(Record(calls, failures, max(worst_excess(tss, limit) for tss in load.admitted().values())))
