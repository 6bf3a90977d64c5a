"""The micro-batcher: joins the crops of many frames and streams into batches.

One thread launches batches and one waits for their rows. At most two batches are in flight: while the device computes one,
the next is ready behind it; crops that come later wait here, where they can still be joined with more. What happens when the
device runs out of memory, or is lost, and when numbers overflow, is decided here alone.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import torch

from worker.hamer.errors import DeviceLostError, OutOfMemoryError, is_device_lost, is_out_of_memory
from worker.hamer.rows import Rows
from worker.hamer.streams import Cropped, Launched
from worker.hands.device.batch_limit import RECOVERY, BatchLimit
from worker.hands.device.errors import end_process

logger = logging.getLogger(__name__)

IN_FLIGHT = 2


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


class Computer(Protocol):
    """What computes batches: see `Engine`."""

    @property
    def has_wide_range(self) -> bool:
        """Whether crops whose rows aren't finite are worth another attempt."""

    def join(self, parts: Sequence[Cropped]) -> torch.Tensor:
        """Returns the crops of several requests as one tensor."""

    def launch(self, crops: torch.Tensor, *, wide_range: bool = False) -> Launched:
        """Starts a batch."""


@dataclass(frozen=True, eq=False)
class _Request:
    parts: Sequence[Cropped]
    wide_range: bool = False
    rows: Future[Rows] = field(default_factory=Future)

    def __len__(self) -> int:
        return sum(len(part.pixels) for part in self.parts)


class MicroBatcher:
    """Joins the crops of concurrent callers into batches.

    Args:
        computer: computes n rows from one batch (n, 3, h, w); n is at most the largest bucket.
        buckets: batch sizes, ascending, from 1.
        recovery: batches without a shortage of memory after which the next larger bucket is tried again, see `BatchLimit`.
        on_lost: called, in any thread, when the device is lost; by default ends the process.
        on_shortage: called in the launching thread after a shortage of memory, before the next attempt.
        on_overflow: called with the number of crops that are computed once more, with the wider range.
    """

    def __init__(
        self,
        computer: Computer,
        *,
        buckets: tuple[int, ...],
        recovery: int = RECOVERY,
        on_lost: Callable[[DeviceLostError], None] = end_process,
        on_shortage: Callable[[], None] = lambda: None,
        on_overflow: Callable[[int], None] = lambda _crops: None,
    ) -> None:
        self._computer = computer
        self._buckets = buckets
        self._on_lost = on_lost
        self._on_shortage = on_shortage
        self._on_overflow = on_overflow
        self._limit = BatchLimit(buckets, recovery)
        self._waiting: deque[_Request] = deque()
        self._in_flight = 0
        self._launched: SimpleQueue[tuple[list[Launched], list[_Request]] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._closed = False
        self._lost: DeviceLostError | None = None
        self._threads = [
            threading.Thread(target=work, name=f"hamer-{name}", daemon=True)
            for name, work in (("launch", self._launch_all), ("finish", self._finish_all))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def largest(self) -> int:
        """The largest bucket in use at present."""
        return self._limit.largest

    def submit(self, crops: Cropped) -> Future[Rows]:
        """Lets crops, at least one, be computed together with those of other callers. Safe in any thread.

        Returns:
            A future of their rows. Its callbacks are called in a thread that all wait for, so they must be quick. It fails with
            OutOfMemoryError if the device has no memory for even one crop at a time, with DeviceLostError if it is lost.

        Raises:
            DeviceLostError: the device was lost before.
            RuntimeError: the batcher is closed.
        """
        request = _Request([crops])
        with self._changed:
            if self._lost:
                raise self._lost
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(request)
            self._changed.notify_all()
        return request.rows

    def warm_up(self, prepare: Callable[[int], None]) -> None:
        """Prepares each batch size, largest first, before the first `submit`; sizes that don't fit into memory aren't used.

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
        for thread in self._threads:
            thread.join()

    def report_lost(self, error: DeviceLostError) -> None:
        """Marks the device as lost: all callers, waiting and later ones, get the error. Safe in any thread."""
        with self._changed:
            first = self._lost is None
            self._lost = self._lost or error
        if first:
            self._on_lost(error)

    # The two threads work by calls that return, so that no variable of theirs keeps crops while there is nothing to do.

    def _launch_all(self) -> None:
        while self._launch_next():
            pass
        self._launched.put(None)

    def _launch_next(self) -> bool:
        """Starts the batches of the requests that wait; returns False once all is done."""
        if not (requests := self._collect()):
            return False
        try:
            if self._lost:
                raise self._lost
            launched = self._launch(requests)
        except Exception as e:
            self._fail(requests, e)
            self._make_room()
        else:
            self._launched.put((launched, requests))
        return True

    def _finish_all(self) -> None:
        while self._finish_next():
            pass

    def _finish_next(self) -> bool:
        """Hands out the rows of the oldest batch in flight; returns False once all is done."""
        if (batch := self._launched.get()) is None:
            return False
        launched, requests = batch
        try:
            rows = [each.wait() for each in launched]
            self._answer(requests, rows[0] if len(rows) == 1 else np.concatenate(rows))
        except Exception as e:
            self._fail(requests, e)
        finally:
            self._make_room()
        return True

    def _collect(self) -> list[_Request]:
        """Waits for crops and for a place in flight; returns the requests of one batch, none once all is done."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    (self._waiting and self._in_flight < IN_FLIGHT)
                    or (self._closed and not self._waiting and not self._in_flight)
                )
            )
            requests: list[_Request] = []
            total = 0
            while self._waiting and (
                not requests
                or (
                    total + len(self._waiting[0]) <= self.largest
                    and self._waiting[0].wide_range == requests[0].wide_range
                )
            ):
                requests.append(self._waiting.popleft())
                total += len(requests[-1])
            self._in_flight += bool(requests)
            return requests

    def _make_room(self) -> None:
        """Makes room in flight for the next batch."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def _answer(self, requests: list[_Request], rows: Rows) -> None:
        start = 0
        for request in requests:
            end = start + len(request)
            self._answer_one(request, rows[start:end])
            start = end

    def _answer_one(self, request: _Request, rows: Rows) -> None:
        overflown = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(overflown) == 0 or request.wide_range or not self._computer.has_wide_range:
            request.rows.set_result(rows)
            return
        # Only these crops: the others' rows don't depend on them. Slices, because copies would be work for a stream.
        (crops,) = request.parts
        again = _Request([Cropped(crops.pixels[n : n + 1], crops.ready) for n in overflown], wide_range=True)

        def complete(done: Future[Rows]) -> None:
            error, completed = done.exception(), rows.copy()
            if error is None:
                completed[overflown] = done.result()
            elif not isinstance(error, OutOfMemoryError):  # without memory for them, these hands aren't finite
                request.rows.set_exception(error)
                return
            request.rows.set_result(completed)

        again.rows.add_done_callback(complete)
        self._on_overflow(len(overflown))
        with self._changed:
            self._waiting.appendleft(again)
            self._changed.notify_all()

    def _fail(self, requests: list[_Request], error: Exception) -> None:
        if is_device_lost(error):
            lost = DeviceLostError(f"the device is lost: {error}")
            self.report_lost(lost)
            error = lost
        for request in requests:
            if not request.rows.done():
                request.rows.set_exception(error)

    def _launch(self, requests: list[_Request]) -> list[Launched]:
        """Starts the batches of these requests; smaller ones if memory runs out."""
        crops = self._computer.join([part for request in requests for part in request.parts])
        wide_range = requests[0].wide_range
        launched: list[Launched] = []
        at = 0
        plan = plan_batches(len(crops), self._buckets, self.largest)
        while plan:
            size = plan[0]
            started = self._try(crops[at : at + size], wide_range)
            if started is None:
                left = len(crops) - at
                plan = [1] * left if wide_range else plan_batches(left, self._buckets, self.largest)
                continue
            launched.append(started)
            at += size
            plan = plan[1:]
            self._limit.computed(size)
        return launched

    def _try(self, crops: torch.Tensor, wide_range: bool) -> Launched | None:
        """Starts a batch; if memory runs out, lowers the limit and returns None."""
        try:
            return self._computer.launch(crops, wide_range=wide_range)
        except Exception as e:
            if not is_out_of_memory(e):
                raise
        # Outside the handler: the error's traceback, which holds the failed batch's tensors, has been released.
        if wide_range and len(crops) > 1:  # the usual batches still fit
            self._on_shortage()
        else:
            self._shrink(len(crops))
        return None

    def _shrink(self, size: int) -> None:
        """Limits batches to the bucket below a size that was too large."""
        self._on_shortage()
        if not self._limit.lower(size):
            raise OutOfMemoryError("the device has no memory left for a single crop")
        logger.warning("out of memory; continuing with smaller batches", extra={"crops": size, "limit": self.largest})
