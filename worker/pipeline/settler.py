"""The thread that writes endings, in batches, and shows the queue that what is held is in living hands."""

import queue as queues
import threading
import time

from worker.metrics import Metrics
from worker.pipeline.reader import FIRST_BACKOFF_S, LAST_BACKOFF_S
from worker.queue.consumer import Queue, QueueAwayError
from worker.queue.delivery import Ending, Held, Skip
from worker.queue.frame import SkipReason

MOST_AT_ONCE = 256


class Settler:
    """Writes endings. ``run`` is for a thread of its own."""

    def __init__(
        self,
        queue: Queue,
        held: Held,
        endings: "queues.SimpleQueue[Ending | Skip | None]",
        metrics: Metrics,
        abandon: threading.Event,
        *,
        claim_idle: float,
    ) -> None:
        """Takes the queue and its neighbours.

        Args:
            queue: where endings are written.
            held: what this process holds.
            endings: where they come from.
            metrics: what is counted for operators.
            abandon: makes ``run`` return although endings are left; they will be delivered again.
            claim_idle: seconds without a sign of life after which others adopt what is held.
        """
        self._queue = queue
        self._held = held
        self._endings = endings
        self._metrics = metrics
        self._abandon = abandon
        self._keep_interval = claim_idle / 3
        self._keep_at = time.monotonic() + self._keep_interval

    def run(self) -> None:
        """Works until it finds None among the endings and has written all before it."""
        backlog: list[Ending | Skip] = []
        backoff = FIRST_BACKOFF_S
        more = True
        while (more or backlog) and not self._abandon.is_set():
            more = more and self._gather(backlog)
            try:
                self._write(backlog)
                self._keep()
            except QueueAwayError:
                self._abandon.wait(backoff)
                backoff = min(2 * backoff, LAST_BACKOFF_S)
            else:
                backoff = FIRST_BACKOFF_S

    def _gather(self, backlog: list[Ending | Skip]) -> bool:
        """Adds what has come to the backlog, waiting a little if it is empty; False after the last."""
        try:
            while len(backlog) < MOST_AT_ONCE:
                ending = self._endings.get(timeout=0.2) if not backlog else self._endings.get_nowait()
                if ending is None:
                    return False
                backlog.append(ending)
        except queues.Empty:
            pass
        return True

    def _write(self, backlog: list[Ending | Skip]) -> None:
        """Writes and empties the backlog. What was written before an error is written again, to no effect."""
        skips: dict[SkipReason, list[str]] = {}
        endings = []
        for ending in backlog:
            if isinstance(ending, Skip):
                skips.setdefault(ending.reason, []).append(ending.entry_id)
            else:
                endings.append(ending)
        if skips:
            for reason, number in self._queue.skip(skips).items():
                self._metrics.skipped.labels(reason.value).inc(number)
        if endings:
            for ending, ended in zip(endings, self._queue.settle(endings), strict=True):
                if ended:
                    self._tell(ending)
        self._held.remove(ending.entry_id for ending in backlog)
        backlog.clear()

    def _tell(self, ending: Ending) -> None:
        kind, _, reason = ending.outcome.partition(":")
        if kind == "dead":
            self._metrics.dead.labels(reason).inc()
        else:
            self._metrics.counted.inc()
            self._metrics.hands.inc(ending.hands)

    def _keep(self) -> None:
        if time.monotonic() >= self._keep_at:
            if held := self._held.snapshot():
                self._queue.keep(held)
            self._keep_at = time.monotonic() + self._keep_interval
