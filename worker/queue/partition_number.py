"""The number of partitions in Redis, which all workers and publishers must have in common."""

from pathlib import Path

import redis
from redis.exceptions import NoPermissionError

from worker.queue.partitions import MOST_PARTITIONS, Partitions

_SCRIPT = Path(__file__).parent / "lua" / "partitions.lua"

CHECK_S = 10.0
"""How often a running program checks it, so that one that somebody forgot to stop notices that it was changed."""


class PartitionsError(Exception):
    """The queue has another number of partitions."""


class PartitionNumber:
    """The number in Redis, as one program sees it."""

    def __init__(self, client: redis.Redis, partitions: Partitions) -> None:
        """Takes a client for the slot of the number's key."""
        self._partitions = partitions
        self._script = client.register_script(_SCRIPT.read_text())

    def check(self) -> None:
        """Notes the program's number in Redis, unless another one is there.

        A user who may not touch the key has one partition, as all queues did before the key was there.

        Raises:
            PartitionsError: another one is there; the message says what to do.
            redis.RedisError: Redis can't be used.
        """
        own = self._partitions.number
        keys = [self._partitions.number_key, self._partitions.only.frames]
        try:
            number = parse_number(self._script(keys, [own]))
        except NoPermissionError:
            if own != 1:
                raise
            return
        if number != own:
            raise PartitionsError(
                f"the queue has {number} partition{'s' * (number > 1)}, not {own}: give --partitions {number}, or stop "
                f"all workers and publishers and run: hand-counter repartition --partitions {own}"
            )


def read_partitions(client: redis.Redis, prefix: str) -> Partitions:
    """Returns the partitions that there are. Raises redis.RedisError, or PartitionsError if the key has no number."""
    try:
        stored = client.get(Partitions(prefix).number_key)
    except NoPermissionError:
        stored = None
    return Partitions(prefix, 1 if stored is None else parse_number(stored))  # type: ignore[arg-type]


def parse_number(stored: bytes) -> int:
    """Returns a stored number of partitions. Raises PartitionsError."""
    if not (stored.isdigit() and 1 <= int(stored[:9]) <= MOST_PARTITIONS):
        raise PartitionsError(
            f"the number of partitions in Redis isn't one from 1 to {MOST_PARTITIONS}: {stored[:20]!r}"
        )
    return int(stored)
