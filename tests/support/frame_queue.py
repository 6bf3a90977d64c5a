"""Publishes the frames of one stream one by one, for tests of what comes after the publishers."""

import threading

import redis
from support.processes.workers import KEYS, QueueServer

from process.backoff import Backoff
from worker.publish.destination import on_one_server
from worker.publish.sender import Sender
from worker.publish.source import Captured
from worker.queue.frame import parse_entry
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


def frame_queue(
    client: redis.Redis, stream_name: str = "cam1", max_queue: int = 1000, waits: bool = False, live: bool = True
) -> FrameQueue:
    """Returns a queue that retries soon."""
    return FrameQueue(
        client,
        KEYS,
        stream_name,
        payload_ttl=60,
        max_queue=max_queue,
        backoff=Backoff(first_s=0.02, longest_s=0.05),
        waits=waits,
        live=live,
    )


def entries(valkey: QueueServer) -> list[tuple[float, bytes]]:
    """Returns the ts and the picture of each entry."""
    rows = []
    for entry_id, fields in valkey.bytes.xrange(KEYS.frames):
        frame = parse_entry(entry_id.decode(), fields)
        rows.append((frame.ts, valkey.bytes.get(frame.frame_key)))
    return rows
