"""Publishes the frames of one stream one by one, for tests of what comes after the publishers."""

import threading

import redis

from process.backoff import Backoff
from worker.publish.destination import on_one_server
from worker.publish.sender import Sender
from worker.publish.source import Captured
from worker.queue.keys import Keys

STOP_S = 10.0


class FrameQueue:
    """A sender with one stream, whose caller waits for each frame."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        stream_name: str,
        *,
        payload_ttl: float = 600.0,
        max_queue: int = 10_000,
        backoff: Backoff | None = None,
        waits: bool = False,
        live: bool = True,
    ) -> None:
        self._published = threading.Semaphore(0)
        self._sender = Sender(
            on_one_server(client, keys),
            payload_ttl=payload_ttl,
            max_queue=max_queue,
            backoff=backoff or Backoff(0.02, 0.05),
            on_published=lambda _stream, _frame: self._published.release(),
        )
        self._channel = self._sender.open(stream_name)
        self._channel.begin(live=live, waits=waits)
        self._sender.start()

    @property
    def pushed_out(self) -> int:
        """Entries that its frames pushed out of the full queue."""
        return self._channel.pushed_out

    def publish(self, frame: Captured) -> bool:
        """Publishes a frame, however long that takes; returns True."""
        assert self._channel.outlet.put(frame)
        return self._published.acquire()

    def close(self) -> None:
        """Sends nothing more."""
        assert self._sender.stop(STOP_S)
