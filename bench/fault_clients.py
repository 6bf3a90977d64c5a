"""Clients of bench.faults, each a process of its own: what the bench does to Redis must not slow the calls it times."""

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
"""A second of them."""

KINDS: dict[str, type[Load]] = {"batches": Load, "session": SessionLoad}
"""By the prefix of their streams' names."""


class Call(NamedTuple):
    """One call that was answered."""

    sent_at: float
    """By the monotonic clock, seconds."""
    took_s: float
    fps: float
    """The limit that it told for all of its frames; NaN where they differ."""


class Record(NamedTuple):
    """What a client saw."""

    calls: list[Call]
    """Those that reached the sidecar."""
    failures: list[str]
    excess: float
    """How far the stream that got most was ahead of the highest limit, in frames."""


class Client:
    """A load in a process of its own. The block begins when it is warm.

    Args:
        kind: one of KINDS.
        address: of the sidecar, HOST:PORT.
        limit: fps that no stream was allowed more than at any time.
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
        """Ends the load, after the batches were told a last limit; gives what it saw."""
        self._pipe.send(fps)
        record = self._receive()
        assert isinstance(record, Record)
        return record

    def _receive(self) -> object:
        while not self._pipe.poll(0.1):
            assert self._process.is_alive(), "a client died"
        return self._pipe.recv()


def told(batch: Batch) -> float:
    """The limit of all frames of a batch; NaN where they differ, and where the answer tells none."""
    limits = set(batch.answer.fps) if batch.answer else set()
    return limits.pop() if len(limits) == 1 else math.nan


def _play(kind: str, address: str, limit: float, pipe: "Connection[object, object]") -> None:
    gc.disable()  # it keeps every answer: collecting would take ever longer, and is no part of a call
    with KINDS[kind](address, BATCH, kind) as load:
        load.wait_for_batches(WARM_BATCHES)
        pipe.send("warm")
        last_fps = pipe.recv()
        wait_until(lambda: kind != "batches" or told(load.batches[-1]) == last_fps, "the last limit")
    answered = [batch for batch in load.batches if batch.answer is not None and batch.asked]
    calls = [Call(batch.sent_at, batch.took_s, told(batch)) for batch in answered]
    failures = [batch.error for batch in load.batches if batch.answer is None]
    pipe.send(Record(calls, failures, max(worst_excess(tss, limit) for tss in load.admitted().values())))
