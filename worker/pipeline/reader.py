"""The thread that reads the queue: drops what is old, has the rest decided, hands over what was admitted.

Skipped frames are acknowledged before a payload is fetched; theirs never are. The bounded queue of jobs is the
back-pressure: where all counting threads are busy, nothing is read.
"""

import functools
import logging
import queue as queues
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from handcounter.pacing.schedule import Reason
from worker.metrics import Metrics
from worker.queue.consumer import Queue, QueueAwayError
from worker.queue.delivery import Delivery, Ending, Held, Job, Skip, dead
from worker.queue.frame import SKIP_OF_REASON, DeadReason, EntryError, Frame, SkipReason, parse_entry

logger = logging.getLogger(__name__)

WAIT_S = 0.5
"""How long one wait for new entries lasts; a stop takes no longer to be noticed."""

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.05, 1.0
"""Between attempts while Redis is away."""

MOST_HELD = 8192
"""Where endings can't be written although entries can be read, nothing more is read beyond so many held: twice the
largest batch, so that it is never in the way of a worker that gets its endings written."""

T = TypeVar("T")


class Limiter(Protocol):
    """What the reader asks."""

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides frames, each a stream_name and a ts, in their order."""
        ...


class StoppedError(Exception):
    """The worker is to stop; what is held stays held."""


class Reader:
    """Turns entries of the queue into jobs and endings. ``run`` is for a thread of its own."""

    def __init__(
        self,
        queue: Queue,
        limiter: Limiter,
        held: Held,
        jobs: "queues.Queue[Job | None]",
        endings: "queues.SimpleQueue[Ending | Skip | None]",
        metrics: Metrics,
        stop: threading.Event,
        *,
        batch_size: int,
        max_age: float,
        claim_idle: float,
        max_deliveries: int,
        drain: bool,
    ) -> None:
        """Takes the queue and its neighbours.

        Args:
            queue: where entries come from.
            limiter: decides new frames.
            held: what this process holds.
            jobs: where admitted frames go.
            endings: where ends go that this thread doesn't write itself.
            metrics: what is counted for operators.
            stop: makes ``run`` return.
            batch_size: the most entries read at once.
            max_age: seconds after which an entry is skipped.
            claim_idle: seconds without a sign of life after which what another worker holds is adopted.
            max_deliveries: how often an entry is delivered before it is given up as dead.
            drain: whether to end when nothing is left in the queue.
        """
        self._queue = queue
        self._limiter = limiter
        self._held = held
        self._jobs = jobs
        self._endings = endings
        self._metrics = metrics
        self._stop = stop
        self._batch_size = batch_size
        self._max_age = max_age
        self._claim_idle = claim_idle
        self._max_deliveries = max_deliveries
        self._drain = drain
        self._left_over = True
        """Whether this consumer may hold entries that this process doesn't know of: from before its start, from a
        read whose reply was lost, or adopted."""
        self._suspect = ""
        self._adopt_at = 0.0
        self.turned_at = time.monotonic()
        """When the loop last went round, for those who watch over it."""

    def run(self) -> None:
        """Reads until stopped, or until the queue is empty if it is to be drained."""
        try:
            while not self._stop.is_set():
                self.turned_at = time.monotonic()
                if self._insist(self._turn):
                    return
        except StoppedError:
            return

    def _turn(self) -> bool:
        """Goes round once; says whether the queue is drained."""
        try:
            if time.monotonic() >= self._adopt_at:
                self._adopt()
            if self._left_over:
                self._take_left_over()
            if len(self._held) >= MOST_HELD:
                self._stop.wait(WAIT_S)
                return False
            deliveries = self._queue.read(self._batch_size)
        except QueueAwayError:
            self._left_over = True
            raise
        if deliveries:
            self._held.add(delivery.entry_id for delivery in deliveries)
            self._metrics.received.inc(len(deliveries))
            self._decide(deliveries)
        elif self._drain and not self._left_over and not self._queue.pending():
            return True
        else:
            self._queue.wait(0.02 if self._left_over or self._drain else WAIT_S)
        return False

    def _decide(self, deliveries: Sequence[Delivery]) -> None:
        """Ends or hands over new entries. What is old costs no admission, nor does what makes no sense."""
        fresh, skips = self._sort_out(deliveries)
        reasons = self._limiter.decide([(frame.stream_name, frame.ts) for frame, _ in fresh])
        admitted = []
        for (frame, delivery), reason in zip(fresh, reasons, strict=True):
            if reason is Reason.ADMITTED:
                admitted.append((frame, delivery))
            else:
                skips[SKIP_OF_REASON[reason]].append(frame.entry_id)
        self._skip(skips)
        self._hand_over(admitted)

    def _sort_out(
        self, deliveries: Sequence[Delivery]
    ) -> tuple[list[tuple[Frame, Delivery]], defaultdict[SkipReason, list[str]]]:
        fresh = []
        skips: defaultdict[SkipReason, list[str]] = defaultdict(list)
        oldest = self._queue.now() - self._max_age
        for delivery in deliveries:
            try:
                frame = parse_entry(delivery.entry_id, delivery.fields, redelivered=delivery.times_delivered > 1)
            except EntryError as error:
                self._endings.put(dead(delivery, error.reason, str(error)))
                continue
            if frame.arrived_at < oldest:
                skips[SkipReason.STALE].append(frame.entry_id)
            else:
                fresh.append((frame, delivery))
        return fresh, skips

    def _skip(self, skips: dict[SkipReason, list[str]]) -> None:
        if not skips:
            return
        for reason, number in self._insist(lambda: self._queue.skip(skips)).items():
            self._metrics.skipped.labels(reason.value).inc(number)
            self._held.remove(skips[reason])

    def _hand_over(self, admitted: Sequence[tuple[Frame, Delivery]]) -> None:
        """Fetches payloads, no more at once than there is room for, and queues the jobs."""
        room = self._jobs.maxsize
        for start in range(0, len(admitted), room):
            chunk = admitted[start : start + room]
            keys = [frame.frame_key for frame, _ in chunk if frame.frame_key is not None]
            payloads = iter(self._insist(functools.partial(self._queue.payloads, keys)) if keys else ())
            for frame, delivery in chunk:
                payload = frame.payload if frame.frame_key is None else next(payloads)
                if payload is None:
                    self._endings.put(Skip(frame.entry_id, SkipReason.PAYLOAD_EXPIRED))
                else:
                    self._metrics.payload_bytes.inc(len(payload))
                    self._put(Job(frame, payload, delivery))

    def _put(self, job: Job) -> None:
        while True:
            self.turned_at = time.monotonic()
            try:
                return self._jobs.put(job, timeout=0.2)
            except queues.Full:
                if self._stop.is_set():
                    raise StoppedError from None

    # What was delivered before

    def _adopt(self) -> None:
        if self._queue.adopt(self._claim_idle):
            self._left_over = True
        self._queue.retire(10 * self._claim_idle)
        self._adopt_at = time.monotonic() + self._claim_idle / 2

    def _take_left_over(self) -> None:
        """Takes up entries from an earlier life. They aren't asked about: the sidecar would call them duplicates.

        What has ended in a crash more than once is suspected to be its cause and taken up one at a time, so that a
        poisonous entry uses up its own deliveries and nobody else's.
        """
        listed = self._queue.unsettled(1000 + len(self._held))
        waiting = {entry_id: times for entry_id, times in listed.items() if entry_id not in self._held}
        self._left_over = bool(waiting)
        harmless = [entry_id for entry_id, times in waiting.items() if times < 2][: self._batch_size]
        if harmless:
            self._take(harmless)
        elif waiting and self._suspect not in self._held:
            self._suspect = next(iter(waiting))
            self._take([self._suspect])

    def _take(self, entry_ids: list[str]) -> None:
        deliveries = self._queue.take(entry_ids)
        self._held.add(delivery.entry_id for delivery in deliveries)
        self._metrics.redelivered.inc(len(deliveries))
        hopeful = []
        for delivery in deliveries:
            if delivery.times_delivered <= self._max_deliveries:
                hopeful.append(delivery)
            else:
                message = f"delivered {self._max_deliveries} times, and each time the worker died before its end"
                logger.error("giving up entry %s: %s", delivery.entry_id, message)
                self._endings.put(dead(delivery, DeadReason.FAILED, message))
        fresh, skips = self._sort_out(hopeful)
        self._skip(skips)
        self._hand_over(fresh)

    def _insist(self, step: Callable[[], T]) -> T:
        """Repeats a step while Redis is away. Raises StoppedError when the worker is to stop meanwhile."""
        backoff = FIRST_BACKOFF_S
        while True:
            try:
                return step()
            except QueueAwayError:
                self.turned_at = time.monotonic()
                if self._stop.wait(backoff):
                    raise StoppedError from None
                backoff = min(2 * backoff, LAST_BACKOFF_S)
