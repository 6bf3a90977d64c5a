"""Takes up deliveries again that were not settled: from before this worker's restart, and of workers that are gone."""

import logging
import queue as queues
import time
from collections import deque
from collections.abc import Mapping, Sequence

from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.queue.consumer import MOST_BYTES, Queue
from worker.queue.delivery import Delivery, Settled, dead_letter
from worker.queue.frame import DeadReason
from worker.queue.held import Held

logger = logging.getLogger(__name__)

RETIRE_AFTER = 10
"""After how many times --claim-idle without a sign of life a consumer that holds nothing is deleted."""


class Redelivery:
    """What this consumer holds according to Redis, although this process doesn't know of it. For the reader's thread."""

    def __init__(
        self,
        queue: Queue,
        held: Held,
        settled: queues.SimpleQueue[Settled | None],
        metrics: Metrics,
        options: PipelineOptions,
    ) -> None:
        self._queue = queue
        self._held = held
        self._settled = settled
        self._metrics = metrics
        self._options = options
        self._suspects: deque[str] = deque()
        self._suspect = ""
        self._adopt_at = 0.0
        self.expected = True
        """Whether there may be such entries: from before the start, from a read whose reply was lost, or adopted."""
        self._unlisted = True
        """Whether there may be some that aren't known yet."""

    def adopt(self) -> None:
        """Takes over what other workers hold without a sign of life, if it is time to look for that. Raises QueueError.

        Also counts what the consumer group forgot, and deletes the consumers of workers that are gone.
        """
        if time.monotonic() < self._adopt_at:
            return
        if self._queue.adopt(self._options.claim_idle):
            self.expect()
        self._queue.reconcile()
        self._queue.retire(RETIRE_AFTER * self._options.claim_idle)
        self._adopt_at = time.monotonic() + self._options.claim_idle / 2

    def expect(self) -> None:
        """Looks for such entries from now on."""
        self.expected = self._unlisted = True

    def take(self, most_bytes: int = MOST_BYTES) -> list[Delivery]:
        """Takes up the next entries, oldest first, without suspects; notes those for :meth:`take_suspect`.

        Args:
            most_bytes: as for :meth:`worker.queue.consumer.Queue.read`.

        Returns:
            What may be counted.

        Raises:
            QueueError: Redis can't be used.
        """
        if not self.expected or not (self._unlisted or not self._suspects):
            return []
        page = 1000 + len(self._held)
        listed = self._queue.unsettled(page)
        waiting = {entry_id: times for entry_id, times in listed.items() if entry_id not in self._held}
        self.expected = bool(waiting)
        harmless, suspects = sort_out(waiting)
        self._suspects = deque(suspects)
        wanted = harmless[: self._options.batch_size]
        deliveries = self._take(wanted, most_bytes)
        self._unlisted = len(listed) == page or len(deliveries) < len(harmless)
        return self._without_worn_out(deliveries)

    @property
    def suspect_waits(self) -> bool:
        """Whether a suspect waits for its turn."""
        return bool(self._suspects)

    @property
    def suspect_in_progress(self) -> bool:
        """Whether a suspect was taken up and isn't settled."""
        return self._suspect in self._held

    @property
    def suspect_is_due(self) -> bool:
        """Whether a suspect waits and none is in progress."""
        return self.suspect_waits and not self.suspect_in_progress

    def take_suspect(self) -> list[Delivery]:
        """Takes up the next suspect if it is due.

        Suspects are in progress one at a time, so that an entry that crashes its worker uses up its own deliveries and
        not those of other suspects. New frames are counted meanwhile.

        Returns:
            What may be counted: one entry, or none if it was delivered too often.

        Raises:
            QueueError: Redis can't be used.
        """
        if not self.suspect_is_due:
            return []
        suspect = self._suspects[0]
        deliveries = self._take([suspect], MOST_BYTES)
        self._suspect = self._suspects.popleft()
        return self._without_worn_out(deliveries)

    def _take(self, entry_ids: Sequence[str], most_bytes: int) -> list[Delivery]:
        if not entry_ids:
            return []
        deliveries = self._queue.take(entry_ids, most_bytes)
        self._held.add(deliveries)
        self._metrics.redelivered.inc(sum(delivery.times_delivered > 1 for delivery in deliveries))
        return deliveries

    def _without_worn_out(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Returns deliveries without those that were delivered too often, which are dead-lettered."""
        return [delivery for delivery in deliveries if not self._is_worn_out(delivery)]

    def _is_worn_out(self, delivery: Delivery) -> bool:
        """Dead-letters an entry that was delivered too often."""
        limit = self._options.max_deliveries
        if delivery.times_delivered <= limit:
            return False
        about = {"entry_id": delivery.entry_id, "deliveries": limit}
        logger.error("an entry is dead-lettered: its worker crashed at each delivery", extra=about)
        message = f"delivered {limit} times, and each time the worker crashed before it settled the entry"
        self._settled.put(dead_letter(delivery, DeadReason.FAILED, message))
        return True


def is_suspect(times_delivered: int) -> bool:
    """Returns whether an entry may be the cause of the crashes that it has survived."""
    return times_delivered >= 2


def sort_out(waiting: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Returns the harmless entries and the suspects, each oldest first.

    Args:
        waiting: the entries by id, oldest first, with the times that each was delivered.
    """
    suspects = [entry_id for entry_id, times in waiting.items() if is_suspect(times)]
    harmless = [entry_id for entry_id, times in waiting.items() if not is_suspect(times)]
    return harmless, suspects
