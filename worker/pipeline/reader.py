"""The thread that reads the queue: skips what is old, has the rest decided, and hands over what was admitted.

Skipped frames are settled before a payload is fetched, and their payloads never are. The bounded queue of jobs is the
back-pressure: while all counting threads are busy, nothing is read.
"""

import functools
import queue as queues
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from handcounter.pacing.bounds import MAX_BATCH
from handcounter.pacing.schedule import Reason
from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.pipeline.limiter import Limiter
from worker.pipeline.redelivery import Redelivery
from worker.pipeline.stream_stats import StreamStats
from worker.queue.commands import QueueError, retry_delays
from worker.queue.consumer import Queue
from worker.queue.delivery import Delivery, Job, Settled, Skipped, dead_letter, skipped
from worker.queue.frame import SKIP_OF_REASON, EntryError, Frame, SkipReason, parse_entry
from worker.queue.held import Held

WAIT_S = 0.5
"""How long one wait for new entries lasts; a stop takes no longer to be noticed."""

SHORT_WAIT_S = 0.02
"""The same while there is something else to look for: deliveries to take up, or the end of a drain."""

MOST_HELD = 2 * MAX_BATCH
"""If entries can be read but not settled, no more are read beyond this many held. Two of the largest batches, so that the
limit never slows a worker that settles its deliveries."""

T = TypeVar("T")


class StoppedError(Exception):
    """The worker is stopping; what is held stays held."""


class Reader:
    """Turns entries of the queue into jobs and settled deliveries. ``run`` is for a thread of its own."""

    def __init__(
        self,
        queue: Queue,
        limiter: Limiter,
        held: Held,
        jobs: queues.Queue[Job | None],
        settled: queues.SimpleQueue[Settled | None],
        metrics: Metrics,
        streams: StreamStats,
        stop: threading.Event,
        options: PipelineOptions,
    ) -> None:
        """Connects the queue with its neighbours.

        Args:
            queue: where entries come from.
            limiter: decides new frames.
            held: what this process holds.
            jobs: where admitted frames go.
            settled: where deliveries go that another thread has to settle.
            metrics: what is counted for operators.
            streams: what is known of each stream.
            stop: makes ``run`` return.
            options: what happens to deliveries.
        """
        self._queue = queue
        self._limiter = limiter
        self._held = held
        self._jobs = jobs
        self._settled = settled
        self._metrics = metrics
        self._streams = streams
        self._stop = stop
        self._options = options
        self._redelivery = Redelivery(queue, held, settled, metrics, options)
        self.turned_at = time.monotonic()
        """When the loop last made progress, for health checks."""

    def run(self) -> None:
        """Reads until stopped, or until the queue is drained if that is asked for."""
        try:
            self._retry_while_redis_fails(self._queue.report_missing_permissions)
            while not self._stop.is_set():
                self.turned_at = time.monotonic()
                if self._retry_while_redis_fails(self._turn):
                    return
        except StoppedError:
            return

    def _turn(self) -> bool:
        """Reads once; returns whether the queue is drained."""
        try:
            self._redelivery.adopt()
            if taken := self._redelivery.take():
                self._recount(taken)
            self._recount_suspect()
            if len(self._held) >= MOST_HELD:
                self._stop.wait(WAIT_S)
                return False
            deliveries = self._queue.read(self._options.batch_size)
        except QueueError:
            self._redelivery.expected = True
            raise
        if deliveries:
            self._held.add(delivery.entry_id for delivery in deliveries)
            self._metrics.received.inc(len(deliveries))
            self._decide(deliveries)
        elif self._options.drain and not self._redelivery.expected and not self._queue.pending():
            self._queue.reconcile()
            return True
        else:
            self._queue.wait(SHORT_WAIT_S if self._redelivery.expected or self._options.drain else WAIT_S)
        return False

    def _decide(self, deliveries: Sequence[Delivery]) -> None:
        """Settles or hands over new entries. Neither stale nor invalid ones use up an admission."""
        fresh, skips = self._sort_out(deliveries)
        reasons = self._limiter.decide([(frame.stream_name, frame.ts) for frame, _ in fresh])
        admitted = []
        for (frame, delivery), reason in zip(fresh, reasons, strict=True):
            if reason is Reason.ADMITTED:
                admitted.append((frame, delivery))
            else:
                skips.append(skipped(frame, SKIP_OF_REASON[reason]))
        self._streams.admitted([frame for frame, _ in admitted])
        self._skip(skips)
        self._hand_over(admitted)

    def _recount(self, deliveries: Sequence[Delivery]) -> None:
        """Hands over entries that were admitted in an earlier life; the sidecar would call them duplicates."""
        fresh, skips = self._sort_out(deliveries)
        self._skip(skips)
        self._hand_over(fresh)

    def _recount_suspect(self) -> None:
        """Hands over the next suspect if it is due."""
        if self._redelivery.suspect_is_due:
            fresh, skips = self._sort_out(self._retry_while_redis_fails(self._redelivery.take_suspect))
            self._skip(skips)
            for job in self._jobs_of(fresh):
                self._put(job)

    def _sort_out(self, deliveries: Sequence[Delivery]) -> tuple[list[tuple[Frame, Delivery]], list[Skipped]]:
        """Returns the frames to decide and the entries to skip as stale; dead-letters invalid entries."""
        fresh, skips, new = [], [], []
        oldest = self._queue.now() - self._options.max_age
        for delivery in deliveries:
            try:
                frame = parse_entry(delivery.entry_id, delivery.fields, delivery.arrived_at)
            except EntryError as error:
                self._settled.put(dead_letter(delivery, error.reason, str(error)))
                continue
            if delivery.times_delivered == 1:
                new.append(frame)
            if frame.arrived_at < oldest:
                skips.append(skipped(frame, SkipReason.STALE))
            else:
                fresh.append((frame, delivery))
        self._streams.received(new)
        return fresh, skips

    def _skip(self, skips: Sequence[Skipped]) -> None:
        if not skips:
            return
        for reason, number in self._retry_while_redis_fails(lambda: self._queue.skip(skips)).items():
            self._metrics.skipped.labels(reason.value).inc(number)
        self._held.remove(skip.entry_id for skip in skips)
        self._streams.skipped(skips)

    def _hand_over(self, admitted: Sequence[tuple[Frame, Delivery]]) -> None:
        """Queues the jobs, with suspects between them.

        Under load a batch takes many seconds to be handed over, and suspects would wait for so long for each other.
        """
        for job in self._jobs_of(admitted):
            self._put(job)
            self._recount_suspect()

    def _jobs_of(self, admitted: Sequence[tuple[Frame, Delivery]]) -> Iterator[Job]:
        """Fetches payloads, no more at once than there is room for; yields those that can be counted."""
        room = self._jobs.maxsize
        for start in range(0, len(admitted), room):
            chunk = admitted[start : start + room]
            keys = [frame.frame_key for frame, _ in chunk if frame.frame_key is not None]
            fetch = functools.partial(self._queue.payloads, keys)
            payloads = iter(self._retry_while_redis_fails(fetch) if keys else ())
            for frame, delivery in chunk:
                payload = frame.payload if frame.frame_key is None else next(payloads)
                if payload is None:
                    self._settled.put(skipped(frame, SkipReason.PAYLOAD_EXPIRED))
                elif isinstance(payload, EntryError):
                    self._settled.put(dead_letter(delivery, payload.reason, str(payload)))
                else:
                    self._metrics.payload_bytes.inc(len(payload))
                    yield Job(frame, payload, delivery)

    def _put(self, job: Job) -> None:
        while True:
            self.turned_at = time.monotonic()
            try:
                return self._jobs.put(job, timeout=0.2)
            except queues.Full:
                if self._stop.is_set():
                    raise StoppedError from None

    def _retry_while_redis_fails(self, step: Callable[[], T]) -> T:
        """Repeats a step until it succeeds. Raises StoppedError when the worker is to stop before that."""
        try:
            return step()
        except QueueError:
            delays = retry_delays()
        while True:
            self.turned_at = time.monotonic()
            if self._stop.wait(delays.next()):
                raise StoppedError
            try:
                return step()
            except QueueError:
                continue
