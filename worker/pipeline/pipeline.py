"""The worker's threads, and how they end.

    reader ──admitted──▶ dispatcher ──jobs──▶ stages ──settled──▶ settler
      ▲ reads, asks, skips   ▲ turns, pictures   no network I/O      │ results, dead letters, acknowledgements
      └──────────────────────┴─────────────── Redis ◀────────────────┘

A stop ends the reader and the dispatcher first, so that no more deliveries come in, and those that wait stay held; then the
decoding threads, and the frames in progress, which are counted to their end; then the settler, which writes the last results.
The settler shows signs of life until then, so no other worker adopts what is held. What isn't done within the grace period is
released to other workers.
"""

import logging
import queue as queues
import threading
import time
from collections.abc import Callable, Sequence

from worker.hands.detection import HandDetector
from worker.metrics import Metrics
from worker.options import PipelineOptions
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.limiter import Limiter
from worker.pipeline.reader import Reader
from worker.pipeline.settler import Settler
from worker.pipeline.smoothing import Smoother
from worker.pipeline.stages import Stages
from worker.pipeline.stream_metrics import StreamMetrics
from worker.pipeline.stream_stats import StreamStats
from worker.preview import Previews
from worker.queue.commands import QueueError
from worker.queue.delivery import Counted, Settled
from worker.queue.held import Held
from worker.queue.partition_number import PartitionsError
from worker.queue.partitioned import WorkerQueue

logger = logging.getLogger(__name__)

UNANSWERED_GRACE_S = 2.0
"""How much longer than the grace period a stop waits for a Redis that doesn't answer."""


class Pipeline:
    """All threads of one worker."""

    def __init__(
        self,
        queue: WorkerQueue,
        limiter: Limiter,
        detectors: Sequence[HandDetector],
        metrics: Metrics,
        options: PipelineOptions,
        on_counted: Callable[[Counted], None] = lambda _result: None,
    ) -> None:
        """Builds a reader, the stages with a decoding thread for each detector, and a settler; starts nothing yet."""
        self.streams = StreamStats(options.metrics_streams, queue.now)
        previews = Previews() if options.previews else None
        smoother = Smoother() if options.smoothing else None
        self._queue = queue
        self._held = Held()
        self._stop_reading = threading.Event()
        self._abandon = threading.Event()
        self._settled: queues.SimpleQueue[Settled | None] = queues.SimpleQueue()
        self._dispatcher = Dispatcher(
            queue, self._settled.put, metrics, threads=len(detectors), max_age=options.max_age
        )
        self._reader = Reader(
            queue,
            limiter,
            self._held,
            self._dispatcher,
            self._settled,
            metrics,
            self.streams,
            self._stop_reading,
            options,
        )
        self._stages = Stages(
            detectors,
            self._dispatcher.next_job,
            self._settled,
            metrics,
            now=queue.now,
            max_age=options.max_age,
            max_pixels=options.max_pixels,
            previews=previews,
            smoother=smoother,
        )
        settler = Settler(
            queue,
            self._held,
            self._settled,
            metrics,
            self.streams,
            self._abandon,
            claim_idle=options.claim_idle,
            on_counted=on_counted,
        )
        self._read_thread = self._thread("reader", self._reader.run)
        self._dispatch_thread = self._thread("dispatcher", self._dispatcher.run)
        self._decoding_threads = self._threads("decoding", self._stages.decoding())
        self._finishing_threads = self._threads("finishing", self._stages.finishing())
        self._settle_thread = self._thread("settler", settler.run)
        self.done = threading.Event()
        """Set when the queue is drained, when a thread has failed, and by a caller that wants the worker to stop."""
        self.failed = False
        self._refused = False
        metrics.held.set_function(lambda: len(self._held))
        metrics.registry.register(StreamMetrics(self.streams, queue.now))

    def start(self) -> None:
        """Starts the threads."""
        stages = (*self._finishing_threads, *self._decoding_threads)
        for thread in (self._settle_thread, *stages, self._dispatch_thread, self._read_thread):
            thread.start()

    def stuck_seconds(self) -> float:
        """Returns for how long the reader has made no progress, or a frame has been counted, if that is longer."""
        return max(time.monotonic() - self._reader.turned_at, self._stages.in_progress.longest_seconds())

    def stop(self, grace: float) -> None:
        """Ends the threads in order, within this many seconds, and releases what is still held.

        If Redis doesn't answer, this takes up to UNANSWERED_GRACE_S longer.
        """
        deadline = time.monotonic() + grace
        self._stop_reading.set()
        self._dispatcher.stop()  # so that the reader doesn't wait for room
        for thread in (self._read_thread, self._dispatch_thread, *self._decoding_threads):
            _join(thread, deadline)
        self._stages.finish(deadline - time.monotonic())
        for thread in self._finishing_threads:
            _join(thread, deadline)
        self._settled.put(None)
        _join(self._settle_thread, deadline)
        self._abandon.set()
        last_deadline = time.monotonic() + UNANSWERED_GRACE_S
        _join(self._settle_thread, last_deadline)  # it may be waiting for a reply; if that comes later, it does no harm
        releasing = self._thread("release", self._release)
        releasing.start()
        _join(releasing, last_deadline)
        if releasing.is_alive():
            logger.warning("Redis doesn't answer, so nothing is released; other workers take over what is held later")

    def _release(self) -> None:
        held = self._held.snapshot()
        try:
            if held:
                self._queue.release(held)
            if not self._refused:
                self._queue.leave()
        except QueueError:
            pass  # it was logged; other workers adopt what is held once it has been idle for long enough
        if held:
            logger.warning("some deliveries were not settled and will be delivered again", extra={"entries": len(held)})

    def _threads(self, name: str, runs: Sequence[Callable[[], None]]) -> list[threading.Thread]:
        return [self._thread(f"{name}-{number}", run) for number, run in enumerate(runs)]

    def _thread(self, name: str, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except PartitionsError as error:
                logger.error("%s", error)
                self._refused = True  # its queue may not exist, so it has no consumer to delete
                self.failed = True
                self.done.set()
            except Exception:
                logger.exception("a thread failed; stopping", extra={"failed_thread": name})
                self.failed = True
                self.done.set()
            if name == "reader":
                self.done.set()

        return threading.Thread(target=guarded, name=name, daemon=True)


def _join(thread: threading.Thread, deadline: float) -> None:
    thread.join(max(0.0, deadline - time.monotonic()))
