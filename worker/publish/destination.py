"""Where the frames of streams go: the partitions of the queue, and clients for their servers."""

from __future__ import annotations

from collections.abc import Callable

import redis

from worker.queue.keys import Keys
from worker.queue.partition_number import PartitionNumber
from worker.queue.partitions import Partitions


class Destination:
    """The queue, as publishers see it. For any thread."""

    def __init__(self, partitions: Partitions, client_of: Callable[[str], redis.Redis]) -> None:
        """Takes a function that returns the client for a key, which sends each command at most once."""
        self.partitions = partitions
        self._client_of = client_of
        self._clients: dict[Keys, redis.Redis] = {}
        self.number = PartitionNumber(client_of(partitions.number_key), partitions)
        """The number of partitions in Redis."""

    def keys(self, stream_name: str) -> Keys:
        """Returns the keys of a stream's partition."""
        return self.partitions.keys_of(stream_name)

    def client(self, keys: Keys) -> redis.Redis:
        """Returns a client for the keys of a partition."""
        client = self._clients.get(keys)
        if client is None:
            client = self._clients[keys] = self._client_of(keys.frames)
        return client


def on_one_server(client: redis.Redis, keys: Keys) -> Destination:
    """Returns a queue of one partition, on the server of a client."""
    return Destination(Partitions(keys.prefix), lambda _key: client)
