"""Feeds one sink from a thread of its own: a bounded buffer, batches, retries, and a count of what was dropped.

Counting never waits for a sink. If the buffer is full, its oldest results are dropped: newer ones are worth more. They
are all in Redis, where the accounting is exact.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from process.backoff import Backoff
from worker.queue.delivery import Counted
from worker.sinks.sink import RejectedError, Sink, SinkError

logger = logging.getLogger(__name__)

MOST_RESULTS = 10_000
MOST_BYTES = 32 * 2**20
"""What a buffer holds at most; whichever is reached first."""

BATCH = 100
"""Results written at once, at most."""

LINGER_S = 0.2
"""How long a batch waits for more results, so that a slow trickle isn't one request each."""

MOST_NAMED = 10
NAME_EVERY_S = 10.0
"""Of the results of a batch that a sink rejects while it takes others, so many are named in the log, at most so often."""

LAST_RETRY_S = 0.1
"""Between attempts while the worker stops."""


@dataclass(slots=True)
class FeedCounts:
    """What became of a sink's results."""

    written: int = 0
    dropped: int = 0
    """Because the buffer was full, they were rejected, or the worker stopped."""
    problem: str = ""
    """Why results can't be written now; empty if they can."""


class Feed:
    """One sink, its buffer and its thread."""

    def __init__(self, name: str, sink: Sink, backoff: Backoff | None = None) -> None:
        """Takes the sink and its name for logs and metrics; starts nothing yet."""
        self.name = name
        self.counts = FeedCounts()
        self._sink = sink
        self._backoff = backoff or Backoff(0.2, 30.0)
        self._buffer: deque[Counted] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._in_flight = 0
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._failing_since: float | None = None
        self._name_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, result: Counted) -> None:
        """Adds a result; never waits."""
        with self._changed:
            self._buffer.append(result)
            self._bytes += len(result.result)
            while len(self._buffer) > MOST_RESULTS or (self._bytes > MOST_BYTES and len(self._buffer) > 1):
                self._bytes -= len(self._buffer.popleft().result)
                self.counts.dropped += 1
            self._changed.notify()

    def finish(self) -> None:
        """Lets the thread end once everything is written."""
        with self._changed:
            self._closing.set()
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Writes what is buffered, within this many seconds, and ends the thread; the rest is dropped."""
        self.finish()
        self._thread.join(max(0.0, seconds))
        self._abandon.set()
        with self._changed:
            left = len(self._buffer) + self._in_flight
            self.counts.dropped += len(self._buffer)
            self._buffer.clear()
        if left:
            about = {"sink": self.name, "results": left}
            logger.warning("results weren't written to a sink before the stop; they are in Redis", extra=about)

    def _run(self) -> None:
        while batch := self._next_batch():
            written = self._write(batch)
            with self._changed:
                self._in_flight = 0
                self.counts.written += written
                self.counts.dropped += len(batch) - written
        self._sink.close()

    def _next_batch(self) -> list[Counted]:
        """Waits for results; returns the oldest, or none when everything is written and the feed closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._buffer or self._closing.is_set())
            self._changed.wait_for(lambda: len(self._buffer) >= BATCH or self._closing.is_set(), LINGER_S)
            batch = [self._buffer.popleft() for _ in range(min(BATCH, len(self._buffer)))]
            self._bytes -= sum(len(result.result) for result in batch)
            self._in_flight = len(batch)
            return batch

    def _write(self, batch: list[Counted]) -> int:
        """Writes a batch in as many attempts as it takes, unless the worker stops; returns how many results are written."""
        while True:
            try:
                self._sink.write(batch)
            except RejectedError as error:
                if error.results is None:
                    self._failed(error)
                    return 0
                self._rejected(error, error.results)
                self._succeeded()
                return len(batch) - len(error.results)
            except Exception as error:
                self._failed(error)
            else:
                self._succeeded()
                return len(batch)
            if self._closing.wait(self._backoff.next()) and self._abandon.wait(LAST_RETRY_S):
                return 0

    def _rejected(self, error: RejectedError, results: Sequence[Counted]) -> None:
        if time.monotonic() < self._name_at:
            return
        self._name_at = time.monotonic() + NAME_EVERY_S
        for result in results[:MOST_NAMED]:
            about = {"entry_id": result.entry_id, "stream_name": result.stream_name, "error": str(error)}
            logger.warning("a sink rejected a result; it is in Redis all the same", extra={"sink": self.name, **about})

    def _failed(self, error: Exception) -> None:
        known = isinstance(error, SinkError)
        self.counts.problem = str(error) if known else type(error).__name__
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            about = {"sink": self.name, "error": self.counts.problem}
            logger.warning("results can't be written to a sink; they are in Redis all the same", extra=about)
            if not known:
                logger.debug("the error of the sink", exc_info=error)

    def _succeeded(self) -> None:
        self._backoff.reset()
        self.counts.problem = ""
        if self._failing_since is not None:
            seconds = round(time.monotonic() - self._failing_since, 1)
            self._failing_since = None
            about = {"sink": self.name, "outage_seconds": seconds, "dropped": self.counts.dropped}
            logger.info("results are written to the sink again", extra=about)
