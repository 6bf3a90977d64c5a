"""The thread that reads the queue: has its entries decided, skips those that aren't counted, and hands over the others.

It reads while few frames wait here, and about as many as are wanted, so that workers share a queue that they keep up with: a
frame goes to a worker that can count it soon. If the newest entry that it read is older than --fresh, the workers don't keep
up. Then it reads on, as many as it may, and newer frames supersede those that wait.
"""

import contextlib
import math
import queue as queues
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from handcounter.pacing.bounds import MAX_BATCH
from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.pipeline.decider import Decider, Verdicts
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.limiter import Limiter
from worker.pipeline.read_size import ReadSize
from worker.pipeline.redeliveries import Redeliveries
from worker.pipeline.retry import StoppedError, until_redis_works
from worker.pipeline.stream_stats import StreamStats
from worker.queue.commands import QueueError
from worker.queue.delivery import Delivery, Settled, Skipped, skipped, without
from worker.queue.frame import SkipReason
from worker.queue.held import Held
from worker.queue.partition_number import CHECK_S
from worker.queue.partitioned import WorkerQueue

WAIT_S = 0.5
"""How long one wait for new entries lasts; a stop takes no longer to be noticed."""

SHORT_WAIT_S = 0.02
"""The same while there is something else to look for: deliveries to take up, or the end of a drain."""

ASK_AGAIN_S = 0.1
"""Until deliveries that wait for the limit of their stream are looked at again."""

LOOK_FOR_PAUSES_S = 1.0
"""Between two looks for pauses of the streams of which admitted frames wait: those that were paused since are skipped."""

FULL_WAIT_S = 0.05
"""Until a worker that holds too much looks again."""

MOST_SKIPPED = MAX_BATCH
"""Deliveries skipped by one script: a Lua script can't take many more than 7900 ids of one reason at once, and what waited for
the limit of its stream may be more."""

MOST_HELD = 2 * MAX_BATCH
"""If entries can be read but not settled, no more are read beyond this many held. Two of the largest batches, so that the
limit never slows a worker that settles its deliveries."""

T = TypeVar("T")


class Reader:
    """Turns entries of the queue into jobs and settled deliveries. ``run`` is for a thread of its own."""

    def __init__(
        self,
        queue: WorkerQueue,
        limiter: Limiter,
        held: Held,
        dispatcher: Dispatcher,
        settled: queues.SimpleQueue[Settled | None],
        metrics: Metrics,
        streams: StreamStats,
        stop: threading.Event,
        options: PipelineOptions,
    ) -> None:
        """Connects the queue with its neighbours.

        Args:
            queue: where entries come from.
            limiter: decides frames.
            held: what this process holds.
            dispatcher: where admitted frames go.
            settled: where deliveries go that another thread has to settle.
            metrics: what is counted for operators.
            streams: what is known of each stream.
            stop: makes ``run`` return.
            options: what happens to deliveries.
        """
        self._queue = queue
        self._held = held
        self._dispatcher = dispatcher
        self._settled = settled
        self._metrics = metrics
        self._streams = streams
        self._stop = stop
        self._options = options
        self._redelivery = Redeliveries(queue.parts, held, settled, metrics, options)
        self._limiter = limiter
        self._decider = Decider(limiter, options)
        self._ask_again_at = 0.0
        self._look_for_pauses_at = 0.0
        self._check_at = time.monotonic() + CHECK_S
        self._read_size = ReadSize(options.batch_size)
        self._read_until = -math.inf
        """All entries that arrived up to then were read, Unix seconds by Redis' clock; known to be in the past."""
        metrics.waiting_for_limit.set_function(lambda: self._decider.undecided)
        self.turned_at = time.monotonic()
        """When the loop last made progress, for health checks."""

    def run(self) -> None:
        """Reads until stopped, or until the queue is drained if that is asked for.

        Raises:
            PartitionsError: the queue has another number of partitions than this worker believes.
        """
        try:
            self._retry(self._queue.check_partitions)
            self._retry(self._queue.report_missing_permissions)
            while not self._stop.is_set():
                self._show_progress()
                if self._retry(self._turn):
                    return
        except StoppedError:
            return

    def _turn(self) -> bool:
        """Reads once, or waits; returns whether the queue is drained."""
        self._check_partitions()
        try:
            self._redelivery.adopt()
            self._decide(self._redelivery.take_suspect())  # one at a time, so it needs no room
            self._decide_waiting()
            self._recall_paused()
            if (room := self._room()) > 0:
                self._decide(self._redelivery.take(room))
            if (room := self._room()) <= 0:
                self._stop.wait(FULL_WAIT_S)
                return False
            early, wanted = self._early(), self._dispatcher.wanted
            if not wanted and early > 0.0:
                self._dispatcher.wait_for_room(min(early, self._longest_wait()))
                return False
            now = time.monotonic()
            if not wanted:
                self._read_size.note_overload(now)
            number = self._read_size.entries(wanted, now) if early > 0.0 else self._options.batch_size
            deliveries = self._queue.read(number, room)
        except QueueError:
            self._redelivery.expect()
            raise
        self._read_until = self._queue.read_until
        if deliveries:
            self._held.add(deliveries)
            self._metrics.received.inc(len(deliveries))
            self._read_size.note(len(deliveries), self._decide(deliveries))
            return False
        if self._options.drain and not self._redelivery.expected and not self._queue.pending():
            self._queue.reconcile()
            return True
        self._queue.wait(self._longest_wait())
        return False

    def _check_partitions(self) -> None:
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_S
            with contextlib.suppress(QueueError):
                self._queue.check_partitions()

    def _room(self) -> int:
        """Returns how many bytes of pictures may come with the next entries; 0 or less: none may be taken up."""
        full = len(self._held) >= MOST_HELD
        return 0 if full else self._options.max_bytes_in_flight - self._held.bytes

    def _early(self) -> float:
        """Returns how many seconds are left until the workers don't keep up."""
        now = self._queue.now()
        self._read_until = min(self._read_until, now)  # the clock may be set back
        return self._read_until + self._options.fresh - now

    def _longest_wait(self) -> float:
        if self._redelivery.expected or self._options.drain:
            return SHORT_WAIT_S
        return ASK_AGAIN_S if self._decider.undecided else WAIT_S

    def _decide(self, deliveries: Sequence[Delivery]) -> int:
        """Settles or hands over deliveries; returns how many are admitted.

        While one waits for the limit of its stream, no crash counts against it.
        """
        if not deliveries:
            return 0
        verdicts = self._decider.decide(deliveries, self._queue.now())
        self._held.add([delivery.without_picture() for _, delivery in verdicts.undecided])
        self._set_deliveries({delivery.entry_id: delivery.times_delivered - 1 for _, delivery in verdicts.undecided})
        self._carry_out(verdicts)
        return len(verdicts.admitted)

    def _decide_waiting(self) -> None:
        """Settles or hands over what waited for the limit of its stream, if it can be decided now."""
        if not self._decider.undecided or time.monotonic() < self._ask_again_at:
            return
        self._ask_again_at = time.monotonic() + ASK_AGAIN_S
        verdicts = self._decider.decide_waiting(self._queue.now())
        self._set_deliveries({each.entry_id: each.times_delivered for _, each, _ in verdicts.admitted})
        self._carry_out(verdicts)

    def _recall_paused(self) -> None:
        """Skips admitted frames that wait, if their stream was paused since they were admitted.

        The frames of a stream that come after a pause would show it, but its publisher may send none.
        """
        if time.monotonic() < self._look_for_pauses_at:
            return
        self._look_for_pauses_at = time.monotonic() + LOOK_FOR_PAUSES_S
        if names := self._dispatcher.waiting_streams():
            self._skip(self._recalled(self._limiter.which_are_paused(names)))

    def _recalled(self, paused: Collection[str]) -> list[Skipped]:
        return [skipped(frame, SkipReason.PAUSED) for frame in self._dispatcher.recall(paused)] if paused else []

    def _carry_out(self, verdicts: Verdicts) -> None:
        for dead in verdicts.dead:
            self._settled.put(dead)
        self._streams.received(verdicts.new)
        self._streams.admitted([frame for frame, delivery, _ in verdicts.admitted if delivery.times_delivered == 1])
        superseded = self._dispatcher.put(verdicts.admitted)
        self._skip([*verdicts.skipped, *(skipped(frame, SkipReason.SUPERSEDED) for frame in superseded)])

    def _skip(self, skips: Sequence[Skipped]) -> None:
        for start in range(0, len(skips), MOST_SKIPPED):
            self._skip_at_once(skips[start : start + MOST_SKIPPED])

    def _skip_at_once(self, skips: Sequence[Skipped]) -> None:
        left: list[Skipped] = []
        for reason, number in self._retry(lambda: self._queue.skip(skips, left)).items():
            self._metrics.skipped.labels(reason.value).inc(number)
        for skip in left:
            self._settled.put(skip)
        done = without(skips, left)
        self._held.remove(skip.entry_id for skip in done)
        self._streams.skipped(done)

    def _set_deliveries(self, times: Mapping[str, int]) -> None:
        if times:
            self._retry(lambda: self._queue.set_deliveries(times))

    def _retry(self, step: Callable[[], T]) -> T:
        """Repeats a step until it succeeds. Raises StoppedError when the worker is to stop before that."""
        return until_redis_works(step, self._stop, self._show_progress)

    def _show_progress(self) -> None:
        self.turned_at = time.monotonic()
