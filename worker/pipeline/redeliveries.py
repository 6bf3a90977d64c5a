"""Takes up deliveries again that were not settled, in all partitions of a worker; see :mod:`worker.pipeline.redelivery`."""

import queue as queues
from collections.abc import Callable, Sequence
from typing import TypeVar

from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.pipeline.redelivery import Redelivery
from worker.queue.commands import QueueError
from worker.queue.consumer import Queue
from worker.queue.delivery import Delivery, Settled
from worker.queue.held import Held

T = TypeVar("T")


class Redeliveries:
    """What this consumer holds in each partition, although this process doesn't know of it. For the reader's thread.

    A partition that can't be used doesn't keep the others from being looked at; only if there is no other, or none that
    works, its error is raised.
    """

    def __init__(
        self,
        parts: Sequence[Queue],
        held: Held,
        settled: queues.SimpleQueue[Settled | None],
        metrics: Metrics,
        options: PipelineOptions,
    ) -> None:
        self._parts = [(queue, Redelivery(queue, held, settled, metrics, options)) for queue in parts]

    @property
    def expected(self) -> bool:
        """Whether there may be such entries."""
        return any(each.expected for _, each in self._parts)

    def expect(self) -> None:
        """Looks for such entries from now on."""
        for _, each in self._parts:
            each.expect()

    def adopt(self) -> None:
        """Takes over what other workers hold without a sign of life, where it is time for that. Raises QueueError."""
        self._in_each(Redelivery.adopt)

    def take(self, most_bytes: int) -> list[Delivery]:
        """Takes up the next entries without suspects; returns what may be counted. Raises QueueError.

        Args:
            most_bytes: the most bytes of the entries; each partition may exceed its part by one entry.
        """
        bytes_each = max(1, most_bytes // len(self._parts))
        return [delivery for taken in self._in_each(lambda each: each.take(bytes_each)) for delivery in taken]

    def take_suspect(self) -> list[Delivery]:
        """Takes up the next suspect if none is in progress; returns what may be counted. Raises QueueError."""
        if any(each.suspect_in_progress for _, each in self._parts):
            return []
        for _, each in self._parts:
            if each.suspect_waits:
                try:
                    return each.take_suspect()
                except QueueError:
                    each.expect()
                    if len(self._parts) == 1:
                        raise
        return []

    def _in_each(self, step: Callable[[Redelivery], T]) -> list[T]:
        done, error = [], None
        failing = set()
        for queue, each in self._parts:
            if queue.interrupted:
                queue.interrupted = False
                each.expect()
            server = queue.commands.client
            if server in failing:  # of partitions on one server, the first waits for it, and that is enough
                continue
            try:
                done.append(step(each))
            except QueueError as failure:
                each.expect()
                failing.add(server)
                error = failure
        if error and not done:
            raise error
        return done
