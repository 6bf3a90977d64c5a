"""The micro-batcher: joins the crops of many callers, frames and streams into batches.

Callers get a future, or block in `run`; one thread computes. A batch starts as soon as the device is idle and takes all
crops that wait: under load they gather while the batch before them is computed. What happens when the device runs out of
memory, or is lost, is decided here alone.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
import torch

from worker.hamer.engine import Rows
from worker.hamer.errors import DeviceLostError, OutOfMemoryError, is_device_lost, is_out_of_memory
from worker.hands.device.errors import end_process

logger = logging.getLogger(__name__)

RECOVERY = 1000
"""Batches after which a larger size is tried again: so many that shortages of memory stay rare."""


def plan_batches(crops: int, buckets: tuple[int, ...], largest: int) -> list[int]:
    """Splits a number of crops into batches. A batch may be padded to its bucket if at most a quarter is padding.

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


class MicroBatcher:
    """Joins the crops of concurrent callers into batches.

    Args:
        forward: computes n rows from one batch (n, 3, h, w); n is at most the largest bucket.
        buckets: batch sizes, ascending, from 1.
        recovery: batches without a shortage of memory after which the next larger bucket is tried again.
        on_lost: called in the computing thread when the device is lost; by default ends the process.
        on_shortage: called in the computing thread after a shortage of memory, before the next attempt.

    Attributes:
        largest: the largest bucket in use at present.
    """

    def __init__(
        self,
        forward: Callable[[torch.Tensor], Rows],
        *,
        buckets: tuple[int, ...],
        recovery: int = RECOVERY,
        on_lost: Callable[[DeviceLostError], None] = end_process,
        on_shortage: Callable[[], None] = lambda: None,
    ) -> None:
        self._forward = forward
        self._buckets = buckets
        self._recovery = recovery
        self._on_lost = on_lost
        self._on_shortage = on_shortage
        self.largest = buckets[-1]
        self._since_shortage = 0
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._lost: DeviceLostError | None = None
        self._thread = threading.Thread(target=self._work, name="hamer-batcher", daemon=True)
        self._thread.start()

    def run(self, crops: torch.Tensor) -> Rows:
        """Does the same as `submit`, and blocks until the rows are there. Raises what the future would."""
        return self.submit(crops).result()

    def submit(self, crops: torch.Tensor) -> Future[Rows]:
        """Lets crops (n, 3, h, w), n at least 1, be computed together with those of other callers.

        Returns:
            A future of their rows. Its callbacks are called in the computing thread, so they must be quick. It fails with
            OutOfMemoryError if the device has no memory for even one crop at a time, with DeviceLostError if it is lost.

        Raises:
            DeviceLostError: the device was lost before.
            RuntimeError: the batcher is closed.
        """
        future: Future[Rows] = Future()
        with self._changed:
            if self._lost:
                raise self._lost
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(_Request(crops, future))
            self._changed.notify_all()
        return future

    def warm_up(self, prepare: Callable[[int], None]) -> None:
        """Prepares each batch size, largest first, before the first `run`; sizes that don't fit into memory aren't used.

        Args:
            prepare: prepares one batch size.

        Raises:
            OutOfMemoryError: not even the smallest size fits.
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
        """Computes the crops that wait, then stops. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def report_lost(self, error: DeviceLostError) -> None:
        """Marks the device as lost: all callers, waiting and later ones, get the error. Safe in any thread."""
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
        """Waits for crops and returns the requests of one batch; none once the batcher is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
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
            self._since_shortage += 1
            if self._since_shortage >= self._recovery and self.largest < self._buckets[-1]:
                self.largest = next(bucket for bucket in self._buckets if bucket > self.largest)
                self._since_shortage = 0
        return np.concatenate(done)

    def _try(self, crops: torch.Tensor) -> Rows | None:
        """Computes a batch; if memory runs out, lowers the limit and returns None."""
        try:
            return self._forward(crops)
        except Exception as e:
            if not is_out_of_memory(e):
                raise
        # Outside the handler: the error's traceback, which holds the failed batch's tensors, has been released.
        self._shrink(len(crops))
        return None

    def _shrink(self, size: int) -> None:
        """Limits batches to the bucket below a size that was too large."""
        self._since_shortage = 0
        self._on_shortage()
        smaller = [bucket for bucket in self._buckets if bucket < size]
        if not smaller:
            raise OutOfMemoryError("the device has no memory left for a single crop")
        self.largest = smaller[-1]
        logger.warning("out of memory; continuing with smaller batches", extra={"crops": size, "limit": self.largest})
