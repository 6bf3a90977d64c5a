"""Knows in which of several queues there may be new entries, and waits for news of the others.

A thread for each queue waits on its server. One read of all queues would be a single command only if they were in one hash
slot, and asking them all again and again would cost the servers more, the more workers are idle.
"""

import threading
from collections.abc import Sequence

from worker.queue.commands import QueueError, retry_delays
from worker.queue.consumer import Queue

BLOCK_S = 1.0
"""How long one wait on a server lasts."""

MOST_WAITS = 5
"""Waits without news after which a queue is read all the same: somebody may have deleted it, and begun it anew. Reading is
also the sign of life by which a queue in use isn't divided anew (see :data:`worker.queue.repartition.ACTIVE_S`)."""


class News:
    """Which queues may have new entries: all at first. For one reading thread; each queue has a thread that waits."""

    def __init__(self, queues: Sequence[Queue]) -> None:
        self._queues = queues
        self._changed = threading.Condition()
        self._ready = set(range(len(queues)))
        self._waiting = [False] * len(queues)
        """Whether a queue has its thread."""
        self._next = 0
        self._closed = threading.Event()

    def ready(self, most: int) -> list[Queue]:
        """Returns at most so many queues that may have new entries, each of them in its turn."""
        with self._changed:
            numbers = sorted(self._ready, key=lambda i: (i - self._next) % len(self._queues))[:most]
        if numbers:
            self._next = numbers[-1] + 1
        return [self._queues[i] for i in numbers]

    def all_ready(self) -> list[Queue]:
        """Returns the queues that may have new entries which weren't read yet."""
        with self._changed:
            return [self._queues[i] for i in self._ready]

    def await_news(self, queue: Queue) -> None:
        """Notes that a queue had no more entries, or couldn't be read: waits for news of it, or until it can be."""
        number = self._queues.index(queue)
        with self._changed:
            self._ready.discard(number)
            if not self._waiting[number]:
                self._waiting[number] = True
                threading.Thread(target=self._run, args=(number,), name=f"news-{number}", daemon=True).start()
            self._changed.notify_all()

    def wait(self, seconds: float, *, even_if_ready: bool = False) -> None:
        """Returns as soon as a queue may have new entries, or after this many seconds."""
        if even_if_ready:
            self._closed.wait(seconds)
            return
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closed.is_set(), seconds)

    def close(self) -> None:
        """Ends the threads, each as soon as its server answers."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def _run(self, number: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: number not in self._ready or self._closed.is_set())
            self._wait_on_server(self._queues[number])
            if self._closed.is_set():
                return
            with self._changed:
                self._ready.add(number)
                self._changed.notify_all()

    def _wait_on_server(self, queue: Queue) -> None:
        delays, waits = retry_delays(), 0
        while not self._closed.is_set() and waits < MOST_WAITS:
            try:
                if queue.wait(BLOCK_S):
                    return
            except QueueError:
                self._closed.wait(delays.next())
                waits = MOST_WAITS - 1  # once it works again, it is read
            else:
                waits += 1
