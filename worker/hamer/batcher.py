"""The micro-batcher: crops of many callers, frames and streams become one batch.

Callers block in `run`; one thread does the computing. A batch leaves when it is full or when its oldest crop has waited
for the deadline. What to do about a device that runs out of memory, or is lost, is decided here and nowhere else.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
import torch

from worker.hamer.engine import Rows
from worker.hamer.errors import DeviceLostError, OutOfMemoryError, is_device_lost, is_out_of_memory

logger = logging.getLogger(__name__)

RECOVERY = 1000
"""Batches: enough that a limit found once isn't run into all the time."""


def end_process(error: DeviceLostError) -> None:
    """Ends the process at once with exit code 1, so that whoever supervises it starts another with a working device.

    No clean-up: what isn't acknowledged is delivered again, and threads waiting for the device would never end.
    """
    logger.critical("%s; ending the process", error)
    logging.shutdown()
    os._exit(1)


def plan_batches(crops: int, buckets: tuple[int, ...], largest: int) -> list[int]:
    """Splits a number of crops into batches: pads to the next bucket where that wastes at most a quarter of it.

    >>> plan_batches(33, (1, 2, 4, 8, 16, 32, 64), 64)  # not 64: almost half of it would be padding
    [32, 1]
    >>> plan_batches(15, (1, 2, 4, 8, 16, 32, 64), 64)
    [15]
    """
    usable = [bucket for bucket in buckets if bucket <= largest]
    plan = []
    while crops:
        above = next((bucket for bucket in usable if bucket >= crops), None)
        if above is not None and above - crops <= above // 4:
            plan.append(crops)
            break
        below = max((bucket for bucket in usable if bucket <= crops), default=usable[0])
        plan.append(min(below, crops))
        crops -= plan[-1]
    return plan


class _Request(NamedTuple):
    crops: torch.Tensor
    rows: Future[Rows]
    since: float


class MicroBatcher:
    """Joins the crops of concurrent callers into batches.

    Args:
        forward: computes one batch: (n, 3, h, w) with n at most the largest bucket gives n rows.
        buckets: batch sizes, ascending, from 1.
        deadline: seconds that a crop waits for company.
        recovery: batches without a shortage of memory after which the next larger bucket is tried again.
        on_lost: called in the computing thread when the device is gone; by default ends the process.
        on_shortage: called in the computing thread after a shortage of memory, before the next try.

    Attributes:
        batches: forwards that succeeded.
        crops: crops that went through them.
        shortages: how often the device ran out of memory.
        largest: the bucket that batches are limited to at present.
    """

    def __init__(
        self,
        forward: Callable[[torch.Tensor], Rows],
        *,
        buckets: tuple[int, ...],
        deadline: float = 0.004,
        recovery: int = RECOVERY,
        on_lost: Callable[[DeviceLostError], None] = end_process,
        on_shortage: Callable[[], None] = lambda: None,
    ) -> None:
        self._forward = forward
        self._buckets = buckets
        self._deadline = deadline
        self._recovery = recovery
        self._on_lost = on_lost
        self._on_shortage = on_shortage
        self.batches = 0
        self.crops = 0
        self.shortages = 0
        self.largest = buckets[-1]
        self._since_shortage = 0
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._lost: DeviceLostError | None = None
        self._thread = threading.Thread(target=self._work, name="hamer-batcher", daemon=True)
        self._thread.start()

    def run(self, crops: torch.Tensor) -> Rows:
        """Computes crops (n, 3, h, w), n at least 1, together with whatever else is waiting; blocks until it is done.

        Raises:
            OutOfMemoryError: not even one crop at a time fits.
            DeviceLostError: the device is gone.
            RuntimeError: the batcher was closed before.
        """
        future: Future[Rows] = Future()
        with self._changed:
            if self._lost:
                raise self._lost
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(_Request(crops, future, time.monotonic()))
            self._changed.notify_all()
        return future.result()

    def warm_up(self, prepare: Callable[[int], None]) -> None:
        """Makes each batch size ready, largest first; those that memory doesn't suffice for aren't used.

        Called before the first `run`.

        Args:
            prepare: makes one batch size ready.

        Raises:
            OutOfMemoryError: there isn't memory for any.
        """
        for size in reversed(self._buckets):
            try:
                prepare(size)
                continue
            except Exception as e:
                if not is_out_of_memory(e):
                    raise
            self._shrink(size)

    def close(self) -> None:
        """Finishes what is waiting and stops. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def report_lost(self, error: DeviceLostError) -> None:
        """Takes note, from any thread, that the device is gone: everyone who waits or comes later is told."""
        with self._changed:
            first = self._lost is None
            self._lost = self._lost or error
        if first:
            self._on_lost(error)

    def _work(self) -> None:
        while requests := self._collect():
            try:
                if self._lost:
                    raise self._lost
                rows = self._compute(torch.cat([request.crops for request in requests]))
            except Exception as e:
                error: Exception = e
                if is_device_lost(e):
                    error = DeviceLostError(f"the device is lost: {e}")
                    self.report_lost(error)
                for request in requests:
                    request.rows.set_exception(error)
                continue
            start = 0
            for request in requests:
                end = start + len(request.crops)
                request.rows.set_result(rows[start:end])
                start = end

    def _collect(self) -> list[_Request]:
        """Waits for crops and gives a batch's worth of them; nothing once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            until = self._waiting[0].since + self._deadline
            self._changed.wait_for(
                lambda: self._closed or sum(len(request.crops) for request in self._waiting) >= self.largest,
                timeout=max(0.0, until - time.monotonic()),
            )
            requests: list[_Request] = []
            total = 0
            while self._waiting and (not requests or total + len(self._waiting[0].crops) <= self.largest):
                requests.append(self._waiting.popleft())
                total += len(requests[-1].crops)
            return requests

    def _compute(self, crops: torch.Tensor) -> Rows:
        done: list[Rows] = []
        at = 0
        plan = plan_batches(len(crops), self._buckets, self.largest)
        while plan:
            size = plan[0]
            rows = self._try(crops[at : at + size])
            if rows is None:
                plan = plan_batches(len(crops) - at, self._buckets, self.largest)
                continue
            done.append(rows)
            at += size
            plan = plan[1:]
            self.batches += 1
            self.crops += size
            self._since_shortage += 1
            if self._since_shortage >= self._recovery and self.largest < self._buckets[-1]:
                self.largest = next(bucket for bucket in self._buckets if bucket > self.largest)
                self._since_shortage = 0
        return np.concatenate(done)

    def _try(self, crops: torch.Tensor) -> Rows | None:
        """Computes a batch, or lowers the limit and gives nothing where memory ran out."""
        try:
            return self._forward(crops)
        except Exception as e:
            if not is_out_of_memory(e):
                raise
        # Outside the handler: the error's traceback, and with it the failed batch's tensors, are gone.
        self._shrink(len(crops))
        return None

    def _shrink(self, size: int) -> None:
        """Limits batches to the bucket below a size that was too large."""
        self.shortages += 1
        self._since_shortage = 0
        self._on_shortage()
        smaller = [bucket for bucket in self._buckets if bucket < size]
        if not smaller:
            raise OutOfMemoryError("the device has no memory left for a single crop")
        self.largest = smaller[-1]
        logger.warning("out of memory with %d crops at a time; going on with at most %d", size, self.largest)
