"""The thread that settles deliveries in Redis, in batches, and keeps other workers from adopting what is held."""

import queue as queues
import threading
import time
from collections.abc import Callable, Sequence

from worker.metrics import Metrics
from worker.pipeline.stream_stats import StreamStats
from worker.queue.commands import QueueError, retry_delays
from worker.queue.delivery import Counted, Dead, Settled, Skipped, without
from worker.queue.held import Held
from worker.queue.partitioned import WorkerQueue
from worker.queue.stream_update import StreamUpdate

MOST_AT_ONCE = 256
"""Deliveries settled by one script, so that no script blocks Redis for long."""


class Settler:
    """Writes settled deliveries. ``run`` is for a thread of its own."""

    def __init__(
        self,
        queue: WorkerQueue,
        held: Held,
        settled: queues.SimpleQueue[Settled | None],
        metrics: Metrics,
        streams: StreamStats,
        abandon: threading.Event,
        *,
        claim_idle: float,
        on_counted: Callable[[Counted], None] = lambda _result: None,
    ) -> None:
        """Connects the queue with its neighbours.

        Args:
            queue: where deliveries are settled.
            held: what this process holds.
            settled: where settled deliveries come from.
            metrics: what is counted for operators.
            streams: what is known of each stream.
            abandon: makes ``run`` return although some are left, which will be delivered again.
            on_counted: called with each result that this worker has written, without repetitions.
            claim_idle: seconds without a sign of life after which other workers adopt what is held.
        """
        self._queue = queue
        self._held = held
        self._settled = settled
        self._metrics = metrics
        self._streams = streams
        self._abandon = abandon
        self._on_counted = on_counted
        self._left: list[Settled] = []
        """What belongs to partitions that can't be reached, while others can."""
        self._left_until = 0.0
        """When it is tried again."""
        self._extend_interval = claim_idle / 3
        self._extend_at = time.monotonic() + self._extend_interval

    def run(self) -> None:
        """Works until it finds None among the settled deliveries and has written all before it."""
        backlog: list[Settled] = []
        delays = retry_delays()
        more = True
        while (more or backlog or self._left) and not self._abandon.is_set():
            if self._left and time.monotonic() >= self._left_until:
                backlog += self._left
                self._left = []
            more = more and self._gather(backlog)
            try:
                self._write(backlog)
                self._extend_hold()
            except QueueError:
                self._abandon.wait(delays.next())
            else:
                if self._left and time.monotonic() >= self._left_until:
                    self._left_until = time.monotonic() + delays.next()
                elif not self._left:
                    delays.reset()
                if self._left and not more:
                    self._abandon.wait(self._left_until - time.monotonic())

    def _gather(self, backlog: list[Settled]) -> bool:
        """Adds what has arrived to the backlog, waiting a little if that is empty; returns False after the last."""
        try:
            while len(backlog) < MOST_AT_ONCE:
                settled = self._settled.get(timeout=0.2) if not backlog else self._settled.get_nowait()
                if settled is None:
                    return False
                backlog.append(settled)
        except queues.Empty:
            pass
        return True

    def _write(self, backlog: list[Settled]) -> None:
        """Writes the backlog and empties it. What was written before an error is written again, without effect."""
        skipped: list[Skipped] = []
        others: list[Counted | Dead] = []
        for settled in backlog:
            if isinstance(settled, Skipped):
                skipped.append(settled)
            else:
                others.append(settled)
        if skipped:
            left: list[Skipped] = []
            for reason, number in self._queue.skip(skipped, left).items():
                self._metrics.skipped.labels(reason.value).inc(number)
            self._left += left
            ended = without(skipped, left)
            self._streams.skipped(ended)
            self._held.remove(each.entry_id for each in ended)
            backlog[:] = others  # if the rest fails, the skipped ones aren't repeated with it
        updates = self._streams.updates(each for each in others if isinstance(each, Counted))
        done = self._settle(others, updates) if others or updates else ()
        self._held.remove(settled.entry_id for settled in done)
        backlog.clear()

    def _settle(self, others: list[Counted | Dead], updates: list[StreamUpdate]) -> Sequence[Counted | Dead]:
        """Writes deliveries and streams; returns the deliveries that aren't left for later."""
        left: list[Counted | Dead] = []
        try:
            still_pending = self._queue.settle(others, updates, left)
        except QueueError:
            self._streams.not_written(updates)
            raise
        self._left += left
        self._streams.not_written(update for update in updates if update.unwritten)
        self._streams.written(updates)
        ended = [each for each, was_pending in zip(others, still_pending, strict=True) if was_pending]
        for settled in ended:
            self._observe(settled)
        self._streams.settled(ended)
        return without(others, left)

    def _observe(self, settled: Counted | Dead) -> None:
        if isinstance(settled, Dead):
            self._metrics.dead.labels(settled.reason.value).inc()
        else:
            self._metrics.counted.inc()
            self._metrics.hands.inc(settled.hand_count)
            self._on_counted(settled)

    def _extend_hold(self) -> None:
        if time.monotonic() >= self._extend_at:
            if held := self._held.snapshot():
                self._queue.extend_hold(held)
            self._extend_at = time.monotonic() + self._extend_interval
