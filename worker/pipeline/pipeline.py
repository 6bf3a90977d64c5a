"""The worker's threads and how they end.

    reader ──jobs──▶ counting threads ──endings──▶ settler
      ▲ reads, asks, skips        no network I/O        │ results, dead letters, acknowledgements
      └───────────────────── Redis ◀────────────────────┘

The order of a stop: the reader first, so that nothing new is held; then the counting threads, which finish what they
were given; then the settler, which writes their last endings. It was alive until then, so nobody took away what we
held. What isn't done within the grace period is given up to other workers.
"""

import logging
import queue as queues
import threading
import time
from collections.abc import Callable, Sequence

from worker.metrics import Metrics
from worker.pipeline.counting import Count, Counting
from worker.pipeline.reader import Limiter, Reader
from worker.pipeline.settler import Settler
from worker.queue.consumer import Queue, QueueAwayError
from worker.queue.delivery import Ending, Held, Job, Skip

logger = logging.getLogger(__name__)


class Pipeline:
    """All threads of one worker."""

    def __init__(
        self,
        queue: Queue,
        limiter: Limiter,
        counts: Sequence[Count],
        metrics: Metrics,
        *,
        batch_size: int = 256,
        max_age: float = 10.0,
        claim_idle: float = 30.0,
        max_deliveries: int = 3,
        drain: bool = False,
    ) -> None:
        """Takes one function per counting thread; see :class:`worker.pipeline.reader.Reader` for the rest."""
        self._queue = queue
        self._held = Held()
        self._stop_reading = threading.Event()
        self._abandon = threading.Event()
        # Two for each thread: the next frame is there when one is done, and no more grows old here than needs to.
        self._jobs: queues.Queue[Job | None] = queues.Queue(maxsize=2 * len(counts))
        self._endings: queues.SimpleQueue[Ending | Skip | None] = queues.SimpleQueue()
        self._reader = Reader(
            queue,
            limiter,
            self._held,
            self._jobs,
            self._endings,
            metrics,
            self._stop_reading,
            batch_size=batch_size,
            max_age=max_age,
            claim_idle=claim_idle,
            max_deliveries=max_deliveries,
            drain=drain,
        )
        self._counters = [
            Counting(count, self._jobs, self._endings, metrics, now=queue.now, max_age=max_age) for count in counts
        ]
        settler = Settler(queue, self._held, self._endings, metrics, self._abandon, claim_idle=claim_idle)
        self._reading = self._thread("reader", self._reader.run)
        self._counting = [self._thread(f"counting-{i}", each.run) for i, each in enumerate(self._counters)]
        self._settling = self._thread("settler", settler.run)
        self.done = threading.Event()
        """Set when the queue is drained, when a thread has failed, and by whoever wants the worker to stop."""
        self.failed = False
        metrics.held.set_function(lambda: len(self._held))

    def start(self) -> None:
        """Starts the threads."""
        for thread in (self._settling, *self._counting, self._reading):
            thread.start()

    def stuck_seconds(self) -> float:
        """How long ago the reader last went round, or for how long a thread has counted one frame, if that is more."""
        return max(time.monotonic() - self._reader.turned_at, *(each.busy_seconds() for each in self._counters))

    def stop(self, grace: float) -> None:
        """Ends the threads in order, within so many seconds, and gives up what is still held."""
        deadline = time.monotonic() + grace
        self._stop_reading.set()
        self._join(self._reading, deadline)
        for _ in self._counting:
            self._put_last_job(deadline)
        for thread in self._counting:
            self._join(thread, deadline)
        self._endings.put(None)
        self._join(self._settling, deadline)
        self._abandon.set()
        self._settling.join()
        self._give_up()

    def _put_last_job(self, deadline: float) -> None:
        try:
            self._jobs.put(None, timeout=max(0.0, deadline - time.monotonic()))
        except queues.Full:
            logger.warning("the counting threads are still busy at the end of the grace period")

    def _give_up(self) -> None:
        held = self._held.snapshot()
        try:
            if held:
                self._queue.give_up(held)
            self._queue.leave()
        except QueueAwayError:
            pass  # it was logged; others adopt what we held when it has been idle for long enough
        if held:
            logger.warning("%d entries were not finished and will be delivered again", len(held))

    def _thread(self, name: str, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except Exception:
                logger.exception("the thread %s failed; stopping", name)
                self.failed = True
                self.done.set()
            if name == "reader":
                self.done.set()

        return threading.Thread(target=guarded, name=name, daemon=True)

    @staticmethod
    def _join(thread: threading.Thread, deadline: float) -> None:
        thread.join(max(0.0, deadline - time.monotonic()))
