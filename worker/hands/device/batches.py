"""Joins the requests of many pictures into batches: each takes all that waits when the device is ready for more.

One thread launches and one hands the results to those who asked. At most two batches are in flight: while the device
computes one, the next is ready, and what comes later waits here, where it can still be joined with more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from worker.hands.device.inputs import Rows
from worker.hands.device.runner import Launched, Outputs

Kind = TypeVar("Kind")

IN_FLIGHT = 2


OnAnswer: TypeAlias = Callable[[Outputs | Exception], None]
"""Takes one output for each row, or what the computation raised. It raises nothing."""


class _Waiting(NamedTuple):
    rows: Rows
    answer: OnAnswer


class Batches(Generic[Kind]):
    """Requests for several kinds of computation. `ask` is for any thread."""

    def __init__(
        self,
        launch: Callable[[Kind, Rows], Launched],
        most: int,
        on_error: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Starts the threads.

        Args:
            launch: starts a batch of one kind; called by one thread.
            most: the most rows that are joined; a request with more is a batch of its own.
            on_error: called with the error of a failed batch before its requests fail with it.
        """
        self._launch = launch
        self._most = most
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: dict[Kind, deque[_Waiting]] = {}
        self._order: deque[Kind] = deque()
        self._closed = False
        self._free = threading.Semaphore(IN_FLIGHT)
        self._launched: SimpleQueue[tuple[Launched, list[_Waiting]] | None] = SimpleQueue()
        self.batches = 0
        self.rows = 0
        self._threads = [
            threading.Thread(target=work, name=f"detector-{name}", daemon=True)
            for name, work in (("launch", self._launch_all), ("finish", self._finish_all))
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, kind: Kind, rows: Rows, answer: OnAnswer) -> None:
        """Lets rows be computed together with those of other requests.

        Args:
            kind: of the computation.
            rows: its inputs, at least one.
            answer: takes the outputs. It is called in the thread that does so for all requests, and may ask again; the device
                computes other requests meanwhile.

        Raises:
            RuntimeError: it is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the detector is closed")
            self._waiting.setdefault(kind, deque()).append(_Waiting(rows, answer))
            self._order.append(kind)
            self._changed.notify()

    def close(self) -> None:
        """Computes what waits, then stops."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _launch_all(self) -> None:
        while True:
            self._free.acquire()
            taken = self._take()
            if taken is None:
                self._launched.put(None)
                return
            kind, requests = taken
            try:
                launched = self._launch(kind, np.concatenate([each.rows for each in requests]))
            except Exception as error:
                self._free.release()
                self._fail(requests, error)
            else:
                self._launched.put((launched, requests))

    def _take(self) -> tuple[Kind, list[_Waiting]] | None:
        """Waits for requests, and returns all of one kind that fit into a batch; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._order or self._closed)
            if not self._order:
                return None
            kind = self._order[0]  # that of the oldest request
            waiting, taken, rows = self._waiting[kind], list[_Waiting](), 0
            while waiting and (not taken or rows + len(waiting[0].rows) <= self._most):
                taken.append(waiting.popleft())
                rows += len(taken[-1].rows)
                self._order.remove(kind)
            self.batches += 1
            self.rows += rows
            return kind, taken

    def _finish_all(self) -> None:
        while (batch := self._launched.get()) is not None:
            launched, requests = batch
            try:
                outputs = launched.wait()
            except Exception as error:
                self._free.release()
                self._fail(requests, error)
            else:
                self._free.release()  # first, so that the device has work while the answers are dealt with
                start = 0
                for each in requests:
                    each.answer(outputs[start : start + len(each.rows)])
                    start += len(each.rows)
            # What they asked for holds their pictures, and the next batch may be long in coming.
            batch = launched = outputs = each = None  # type: ignore[assignment]
            requests = []

    def _fail(self, requests: list[_Waiting], error: Exception) -> None:
        self._on_error(error)
        for each in requests:
            each.answer(error)
