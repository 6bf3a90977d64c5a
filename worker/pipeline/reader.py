"""The thread that reads the queue: skips what is old, has the rest decided, and hands over what was admitted.

Skipped frames are settled before a payload is fetched, and their payloads never are. The bounded queue of jobs is the
back-pressure: while all counting threads are busy, nothing is read.
"""

import functools
import queue as queues
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from handcounter.pacing.bounds import MAX_BATCH
from handcounter.pacing.schedule import Reason
from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.pipeline.limiter import Limiter
from worker.pipeline.redelivery import Redelivery
from worker.pipeline.stream_stats import StreamStats
from worker.pipeline.undecided import Undecided, Waiting
from worker.queue.commands import QueueError, retry_delays
from worker.queue.consumer import Queue
from worker.queue.delivery import Delivery, Job, Settled, Skipped, dead_letter, skipped
from worker.queue.frame import SKIP_OF_REASON, EntryError, Frame, SkipReason, parse_entry
from worker.queue.held import Held

WAIT_S = 0.5
"""How long one wait for new entries lasts; a stop takes no longer to be noticed."""

SHORT_WAIT_S = 0.02
"""The same while there is something else to look for: deliveries to take up, or the end of a drain."""

ASK_AGAIN_S = 0.1
"""Until deliveries that wait for the limit of their stream are looked at again."""

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
            limiter: decides frames.
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
        self._undecided = Undecided()
        self._ask_again_at = 0.0
        metrics.waiting_for_limit.set_function(lambda: len(self._undecided))
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
                self._decide(taken)
            self._decide_suspect()
            self._decide_waiting()
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
            looking = self._redelivery.expected or self._options.drain
            self._queue.wait(SHORT_WAIT_S if looking else ASK_AGAIN_S if self._undecided else WAIT_S)
        return False

    def _decide(self, deliveries: Sequence[Delivery]) -> None:
        """Settles or hands over entries. Neither stale nor invalid ones use up an admission."""
        fresh, skips = self._sort_out(deliveries)
        admitted, undecided = self._divide(fresh, skips)
        self._wait_for_limits(undecided)
        self._skip(skips)
        self._hand_over(admitted)

    def _decide_suspect(self) -> None:
        """Hands over the next suspect if it is due."""
        if self._redelivery.suspect_is_due:
            fresh, skips = self._sort_out(self._retry_while_redis_fails(self._redelivery.take_suspect))
            admitted, undecided = self._divide(fresh, skips)
            self._wait_for_limits(undecided)
            self._skip(skips)
            for job in self._jobs_of(admitted):
                self._put(job)

    def _decide_waiting(self) -> None:
        """Decides what waits for the limit of its stream if the sidecar can be asked again; skips what waited for too long."""
        if not self._undecided:
            return
        oldest = self._queue.now() - self._options.max_age
        skips = [skipped(frame, SkipReason.LIMIT_UNKNOWN) for frame, _ in self._undecided.take_older(oldest)]
        admitted: list[Waiting] = []
        if not self._limiter.sidecar_unreachable and time.monotonic() >= self._ask_again_at:
            admitted, undecided = self._divide(self._undecided.take(), skips)
            self._undecided.add(undecided)
            if undecided:  # it answers, but doesn't decide
                self._ask_again_at = time.monotonic() + ASK_AGAIN_S
            self._set_deliveries({delivery.entry_id: delivery.times_delivered for _, delivery in admitted})
        self._skip(skips)
        self._hand_over(admitted)

    def _divide(self, frames: Sequence[Waiting], skips: list[Skipped]) -> tuple[list[Waiting], list[Waiting]]:
        """Returns the admitted frames, and those that can't be decided; adds the rest to the skips.

        A frame that was delivered before was admitted in an earlier life, and the sidecar would call it a duplicate. So it
        is counted unless its stream is paused.
        """
        new = [(frame.stream_name, frame.ts) for frame, delivery in frames if delivery.times_delivered == 1]
        old = [frame.stream_name for frame, delivery in frames if delivery.times_delivered != 1]
        wait = self._options.wait_for_limits
        decide: Callable[..., Sequence[Reason | None]] = self._limiter.decide_known if wait else self._limiter.decide
        reasons = iter(decide(new) if new else ())
        limits = iter(self._limiter.limits(old) if old else ())
        admitted, undecided = [], []
        for frame, delivery in frames:
            if delivery.times_delivered == 1:
                reason = next(reasons)
            elif (limit := next(limits)) is None and wait:
                reason = None
            else:
                reason = Reason.PAUSED if limit == 0.0 else Reason.ADMITTED
            if reason is None:
                undecided.append((frame, delivery))
            elif reason is Reason.ADMITTED:
                admitted.append((frame, delivery))
            else:
                skips.append(skipped(frame, SKIP_OF_REASON[reason]))
        self._streams.admitted([frame for frame, delivery in admitted if delivery.times_delivered == 1])
        return admitted, undecided

    def _wait_for_limits(self, deliveries: Sequence[Waiting]) -> None:
        """Keeps deliveries until their limits are known, and lets no crash in the meantime count against them."""
        self._set_deliveries({delivery.entry_id: delivery.times_delivered - 1 for _, delivery in deliveries})
        self._undecided.add(deliveries)

    def _set_deliveries(self, times: Mapping[str, int]) -> None:
        if times:
            self._retry_while_redis_fails(lambda: self._queue.set_deliveries(times))

    def _sort_out(self, deliveries: Sequence[Delivery]) -> tuple[list[Waiting], list[Skipped]]:
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
            self._decide_suspect()

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
