"""Between the reader and the stages: admitted frames wait here for their turn, and their pictures are fetched then.

A thread fetches pictures, so that no decoding thread waits for Redis: as many as there are idle decoding threads, and a few
ahead. Not more, because a frame whose picture is fetched can't be superseded any more and grows old.

A suspect (see redelivery) takes no turn and goes first: it waited for its turn before the crashes, and the next suspect waits
until it is settled. Since there is one at a time, the others keep all decoding threads but one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from worker.metrics import Metrics
from worker.pipeline.redelivery import is_suspect
from worker.pipeline.retry import StoppedError, until_redis_works
from worker.pipeline.scheduler import Scheduler
from worker.queue.commands import QueueError
from worker.queue.delivery import Delivery, Job, Settled, dead_letter, skipped
from worker.queue.frame import EntryError, Frame, SkipReason
from worker.queue.partitioned import WorkerQueue

THREADS_PER_PICTURE_AHEAD = 2
"""Of how many decoding threads one finds its next picture fetched; at least one does. More at once cost Redis less."""


FETCH_AGAIN_S = 0.2
"""Until frames whose partition couldn't be reached wait for their turn again."""


class Admitted(NamedTuple):
    """An admitted frame."""

    frame: Frame
    delivery: Delivery
    fps: float
    """The limit in force of its stream, frames per second."""


class Dispatcher:
    """Hands frames to the decoding threads, the next one by the scheduler's turns. For any thread."""

    def __init__(
        self,
        queue: WorkerQueue,
        put_settled: Callable[[Settled], None],
        metrics: Metrics,
        *,
        threads: int,
        max_age: float,
    ) -> None:
        """Connects the queue with its neighbours.

        Args:
            queue: where payloads are.
            put_settled: takes deliveries that end here: too old when their turn comes, or without a picture.
            metrics: what is counted for operators.
            threads: how many threads decode.
            max_age: seconds after which a live frame is skipped; infinity: live frames are neither skipped nor superseded.
        """
        self._queue = queue
        self._put_settled = put_settled
        self._metrics = metrics
        self._threads = threads
        self._most_waiting = 2 * threads
        self._ahead = max(1, threads // THREADS_PER_PICTURE_AHEAD)
        self._max_age = max_age
        lock = threading.Lock()
        self._wanted = threading.Condition(lock)
        self._fetched = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._scheduler: Scheduler[Admitted] = Scheduler(_is_newer)
        self._first: deque[Admitted] = deque()
        """Frames that go before all others."""
        self._ready: deque[Job] = deque()
        self._unreachable: list[Admitted] = []
        """Frames whose partition can't be reached, while others can."""
        self._again_at = 0.0
        """When they wait for their turn again."""
        self._idle = 0
        self._stop = threading.Event()
        self._ended = False
        metrics.waiting.set_function(self.__len__)

    def __len__(self) -> int:
        """Returns how many frames wait for their turn."""
        with self._wanted:
            return len(self._first) + len(self._scheduler)

    # For the reader

    def put(self, frames: Sequence[Admitted]) -> list[Frame]:
        """Adds frames; returns those that they supersede."""
        superseded = []
        with self._wanted:
            for each in frames:
                live = each.frame.live and self._max_age != float("inf")
                if is_suspect(each.delivery.times_delivered - 1):
                    newer = self._scheduler.waiting_live(each.frame.stream_name) if live else None
                    if newer is None or not _is_newer(newer, each):
                        self._first.append(each)
                        continue
                if old := self._scheduler.put(each.frame.stream_name, each.fps, each, live=live):
                    superseded.append(old.frame)
            self._wanted.notify()
        return superseded

    def recall(self, stream_names: Collection[str]) -> list[Frame]:
        """Takes back the frames of streams that no thread has begun with; returns them."""
        with self._wanted:
            frames = [each.frame for name in stream_names for each in self._scheduler.recall(name)]
            frames += [each.frame for each in self._first if each.frame.stream_name in stream_names]
            self._first = deque(each for each in self._first if each.frame.stream_name not in stream_names)
            fetched = [job for job in self._ready if job.frame.stream_name in stream_names]
            for job in fetched:
                self._ready.remove(job)
            if self._is_roomy():
                self._room.notify()
            self._wanted.notify()
        return frames + [job.frame for job in fetched]

    def waiting_streams(self) -> list[str]:
        """Returns the streams of which frames wait for their turn or for a decoding thread."""
        with self._wanted:
            others = [each.frame for each in self._first] + [job.frame for job in self._ready]
            return list({*self._scheduler.waiting_streams(), *(frame.stream_name for frame in others)})

    @property
    def wanted(self) -> int:
        """How many more frames the decoding threads may soon want; 0 if enough wait, else at least one for each thread."""
        with self._wanted:
            room = self._most_waiting - len(self._scheduler)
            return max(self._threads, room) if self._is_roomy() else 0

    def wait_for_room(self, seconds: float) -> None:
        """Returns when there is room, or after this many seconds, or when the worker stops."""
        with self._room:
            self._room.wait_for(lambda: self._is_roomy() or self._stop.is_set(), max(0.0, seconds))

    def _is_roomy(self) -> bool:
        return len(self._scheduler) < self._most_waiting

    # For the decoding threads

    def next_job(self) -> Job | None:
        """Waits for the next frame; returns None when the worker stops."""
        with self._fetched:
            self._idle += 1
            if not self._ready:
                self._wanted.notify()
            self._fetched.wait_for(lambda: self._ready or self._ended)
            self._idle -= 1
            job = self._ready.popleft() if self._ready else None
            self._wanted.notify()
            return job

    # Its own thread

    def run(self) -> None:
        """Fetches pictures until it is stopped."""
        try:
            while not self._stop.is_set():
                self._fetch()
        except StoppedError:
            pass
        finally:
            with self._fetched:
                self._ended = True
                self._fetched.notify_all()

    def stop(self) -> None:
        """Ends `run`, and then the decoding threads, which take what is fetched; the rest stays held."""
        self._stop.set()
        with self._wanted:
            self._wanted.notify_all()
            self._room.notify_all()

    def _fetch(self) -> None:
        if self._unreachable and time.monotonic() >= self._again_at:
            again, self._unreachable = self._unreachable, []
            for frame in self.put(again):
                self._put_settled(skipped(frame, SkipReason.SUPERSEDED))
        dropped: list[Admitted] = []
        with self._wanted:
            self._wanted.wait_for(
                lambda: self._stop.is_set() or ((self._first or len(self._scheduler) > 0) and self._demand() > 0),
                max(0.0, self._again_at - time.monotonic()) if self._unreachable else None,
            )
            taken = self._take(dropped)
            if self._is_roomy():
                self._room.notify()
        for frame, _, _ in dropped:
            self._put_settled(skipped(frame, SkipReason.STALE))
        jobs = list(self._jobs_of(taken))
        with self._fetched:
            self._ready += jobs
            self._fetched.notify(len(jobs))
            del taken, jobs  # the pictures belong to the decoding threads now, also if this one isn't run for a while

    def _demand(self) -> int:
        return self._idle + self._ahead - len(self._ready)

    def _take(self, dropped: list[Admitted]) -> list[Admitted]:
        oldest = self._queue.now() - self._max_age

        def is_stale(each: Admitted) -> bool:
            return each.frame.live and each.frame.arrived_at < oldest

        taken: list[Admitted] = []
        while len(taken) < self._demand() and not self._stop.is_set():
            each = self._first.popleft() if self._first else self._scheduler.take(is_stale, dropped)
            if each is None:
                break
            (dropped if is_stale(each) else taken).append(each)
        return taken

    def _jobs_of(self, taken: Sequence[Admitted]) -> Iterator[Job]:
        """Yields the frames that can be counted, with their pictures; settles the others."""
        keys = [frame.frame_key for frame, _, _ in taken if frame.frame_key is not None]
        payloads = iter(until_redis_works(lambda: self._queue.payloads(keys), self._stop) if keys else ())
        again = [frame.entry_id for frame, _, _ in taken if frame.frame_key is None and frame.payload is None]
        inline = iter(until_redis_works(lambda: self._queue.inline_payloads(again), self._stop) if again else ())
        for each in taken:
            frame, delivery, _ = each
            payload = frame.payload or next(inline if frame.frame_key is None else payloads)
            if isinstance(payload, QueueError):
                self._unreachable.append(each)
                self._again_at = time.monotonic() + FETCH_AGAIN_S
            elif payload is None:
                self._put_settled(skipped(frame, SkipReason.PAYLOAD_EXPIRED))
            elif isinstance(payload, EntryError):
                self._put_settled(dead_letter(delivery, payload.reason, str(payload)))
            else:
                self._metrics.payload_bytes.inc(len(payload))
                if frame.payload is not None:
                    frame, delivery = replace(frame, payload=None), delivery.with_short_picture()
                yield Job(frame, payload, delivery)


def _is_newer(new: Admitted, old: Admitted) -> bool:
    return new.frame.arrived_at >= old.frame.arrived_at
