"""The parts around a reader, a settler or a whole pipeline: a queue that loses replies, limiters, and options."""

import math
import queue as queues
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
from support.processes.workers import KEYS

from handcounter.pacing.schedule import Reason
from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.picture_header import MAX_PIXELS
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.reader import Reader
from worker.pipeline.settler import Settler
from worker.pipeline.stream_stats import StreamStats
from worker.queue.commands import Commands, QueueUnreachableError
from worker.queue.consumer import Queue
from worker.queue.delivery import Counted, Job, Settled
from worker.queue.held import Held
from worker.queue.redis_client import connect


def pipeline_options(**changes: Any) -> PipelineOptions:
    """Options under which no frame is stale and nothing is adopted."""
    options = {
        "batch_size": 100,
        "max_bytes_in_flight": 2**26,
        "max_age": math.inf,
        "fresh": 0.5,
        "claim_idle": 3600.0,
        "max_deliveries": 3,
        "max_pixels": MAX_PIXELS,
        "metrics_streams": 100,
        "previews": False,
        "smoothing": True,
        "wait_for_limits": True,
        "drain": True,
    }
    return PipelineOptions(**{**options, **changes})


class LossyCommands(Commands):
    """Notes the commands, and loses the replies of those that a test names, after Redis executed them."""

    def __init__(self, url: str) -> None:
        super().__init__(connect(url), KEYS)
        self.done: list[str] = []
        self.lose: list[str] = []

    def call(self, name: str, command: Callable[[redis.Redis], Any]) -> Any:
        reply = super().call(name, command)
        self.done.append(name)
        if name in self.lose:
            self.lose.remove(name)
            raise QueueUnreachableError(f"the reply of {name} was lost")
        return reply


class EveryNth:
    """Admits every n-th frame of a batch, and notes the batches."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.batches: list[list[tuple[str, float]]] = []
        self.sidecar_unreachable = False
        self.paused: set[str] = set()
        self.unknown: set[str] = set()
        """Streams whose limit isn't known; a missing name means the opposite."""

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        self.batches.append(list(frames))
        return [Reason.TOO_SOON if i % self.every else Reason.ADMITTED for i in range(len(frames))]

    def decide_known(self, frames: Sequence[tuple[str, float]]) -> list[Reason | None]:
        reasons = zip(frames, self.decide(frames), strict=True)
        return [self._of_known(name, reason) for (name, _), reason in reasons]

    def limits(self, stream_names: Sequence[str]) -> list[float | None]:
        return [None if name in self.unknown else 0.0 if name in self.paused else math.inf for name in stream_names]

    def which_are_paused(self, stream_names: Sequence[str]) -> set[str]:
        return self.paused.intersection(stream_names)

    def told_fps(self, stream_name: str) -> float | None:  # noqa: ARG002
        return None

    def _of_known(self, stream_name: str, reason: Reason) -> Reason | None:
        if stream_name in self.unknown:
            return None
        return Reason.PAUSED if stream_name in self.paused else reason


class ReaderAndSettler:
    """A reader, a dispatcher, a settler, and a thread between them that counts one hand in every frame."""

    def __init__(self, queue: Queue, limiter: EveryNth, threads: int = 2, **changes: Any) -> None:
        self.held = Held()
        self.settled: queues.SimpleQueue[Settled | None] = queues.SimpleQueue()
        self.metrics = Metrics()
        self.stop = threading.Event()
        options = pipeline_options(**changes)
        self.dispatcher = Dispatcher(queue, self.settled.put, self.metrics, threads=threads, max_age=options.max_age)
        self.streams = StreamStats(options.metrics_streams, queue.now)
        self.reader = Reader(
            queue, limiter, self.held, self.dispatcher, self.settled, self.metrics, self.streams, self.stop, options
        )
        self.settler = Settler(
            queue, self.held, self.settled, self.metrics, self.streams, threading.Event(), claim_idle=options.claim_idle
        )
        self.done: list[Job] = []

    def run(self) -> list[Job]:
        """Drains the queue; returns the jobs in their order."""
        threads = [threading.Thread(target=each) for each in (self.dispatcher.run, self._count, self.settler.run)]
        for thread in threads:
            thread.start()
        self.reader.run()
        self.dispatcher.stop()
        for thread in threads[:2]:
            thread.join()
        self.settled.put(None)
        threads[2].join()
        return self.done

    def read(self) -> threading.Thread:
        """Starts the reader alone, so that no frame is counted; `end` ends it."""
        thread = threading.Thread(target=self.reader.run)
        thread.start()
        return thread

    def end(self, thread: threading.Thread) -> None:
        """Stops the reader."""
        self.stop.set()
        self.dispatcher.stop()
        thread.join(60.0)
        assert not thread.is_alive()

    def _count(self) -> None:
        while (job := self.dispatcher.next_job()) is not None:
            self.done.append(job)
            self.settled.put(Counted(job.frame.entry_id, job.frame.stream_name, job.frame.ts, 1, "{}"))
