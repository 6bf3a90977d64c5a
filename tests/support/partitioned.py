"""Frames for the partitions of a queue, and what becomes of them in all partitions together."""

import itertools
from collections import Counter

import redis
from support.processes.workers import T0, picture

from worker.queue.connections import Connections
from worker.queue.frame import encode_entry
from worker.queue.keys import CONSUMER_GROUP, Keys
from worker.queue.partitions import Partitions

_unique = itertools.count()


class PartitionedFrames:
    """Publishes frames to each stream's partition, and reads what became of them."""

    def __init__(self, url: str, number: int, prefix: str = "hand_counter") -> None:
        self.partitions = Partitions(prefix, number)
        self.connections = Connections(url)
        self.payload = picture()
        self.published = 0
        self._clients: dict[Keys, redis.Redis] = {}

    def close(self) -> None:
        """Closes the connections."""
        self.connections.close()

    def client(self, keys: Keys):
        """Returns a client of a partition."""
        if keys not in self._clients:
            self._clients[keys] = self.connections.client(keys.frames)
        return self._clients[keys]

    def publish(self, stream_name: str, ts: float, payload: bytes | None = None) -> str:
        """Adds a frame; returns the entry's id."""
        keys = self.partitions.keys_of(stream_name)
        client, key = self.client(keys), keys.payload(f"{stream_name}:{next(_unique)}")
        client.set(key, self.payload if payload is None else payload, ex=600)
        entry_id = client.xadd(keys.frames, encode_entry(stream_name, ts, key)).decode()
        self.published += 1
        return entry_id

    def publish_many(self, number: int, streams: int = 8, first: int = 0) -> None:
        """Adds frames of several streams, in turns."""
        for i in range(first, first + number):
            self.publish(f"cam{i % streams}", T0 + i // streams / 30.0)

    def accounting(self) -> Counter[str]:
        """Returns the accounting of all partitions together."""
        total: Counter[str] = Counter()
        for keys in self.partitions:
            stored = self.client(keys).hgetall(keys.accounting)
            total.update({name.decode(): int(value) for name, value in stored.items()})
        return total

    def balances(self) -> list[int]:
        """Returns received less settled, for each partition."""
        found = []
        for keys in self.partitions:
            fields = {name: int(value) for name, value in self.client(keys).hgetall(keys.accounting).items()}
            found.append(fields.pop(b"received", 0) - sum(fields.values()))
        return found

    def pending(self) -> int:
        """Returns how many deliveries aren't settled."""
        found = 0
        for keys in self.partitions:
            client = self.client(keys)
            if client.exists(keys.frames) and client.xinfo_groups(keys.frames):
                found += int(client.xpending(keys.frames, CONSUMER_GROUP)["pending"])
        return found
