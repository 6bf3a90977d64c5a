"""Which partition a stream belongs to, and the keys of each partition. Pure.

A partition is a queue with all that belongs to it: entries, pictures, results, accounting, dead letters, and what is kept
of its streams. All its keys have one hash tag, so that they are in one slot of a Redis Cluster:

    number of partitions   tag of partition i
    1                      {hand_counter}
    more                   {hand_counter:i}, i from 0

How many there are is a number in Redis, at ``{hand_counter}:partitions``; without it there is one. So no prefix may look like
a tag of another one's partition.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from worker.queue.keys import DEFAULT_PREFIX, Keys

MOST_PARTITIONS = 4096
"""More would be more connections than a worker should have, even one with a share of them."""


def prefix_error(prefix: str) -> str | None:
    """Returns why a text can't be the prefix of a queue's keys; None if it can."""
    name, colon, number = prefix.rpartition(":")
    if colon and _is_number(number) and int(number) < MOST_PARTITIONS and number == str(int(number)):
        return (
            f"{{{prefix}}} has the keys of partition {number} of the prefix {name!r}: choose a prefix without :{number}"
        )
    return None


@dataclass(frozen=True)
class Partitions:
    """The partitions of one prefix."""

    prefix: str = DEFAULT_PREFIX
    number: int = 1

    @property
    def number_key(self) -> str:
        """The key of their number, a string: ``{hand_counter}:partitions``."""
        return f"{{{self.prefix}}}:partitions"

    @property
    def only(self) -> Keys:
        """The keys of the queue if it has one partition."""
        return Keys(self.prefix)

    def of(self, stream_name: str) -> int:
        """Returns the partition of a stream: the CRC-32 of its name (UTF-8), modulo their number."""
        return zlib.crc32(stream_name.encode()) % self.number

    def keys(self, partition: int) -> Keys:
        """Returns the keys of a partition."""
        return self.only if self.number == 1 else Keys(f"{self.prefix}:{partition}")

    def keys_of(self, stream_name: str) -> Keys:
        """Returns the keys of a stream's partition."""
        return self.keys(self.of(stream_name))

    def __iter__(self) -> Iterator[Keys]:
        """Returns the keys of each partition, in their order."""
        return map(self.keys, range(self.number))


@dataclass(frozen=True)
class Share:
    """Which partitions a worker reads: every `of`-th one, from number `index` on. The shares of 0 to `of` - 1 have them all."""

    index: int = 0
    of: int = 1

    def partitions(self, number: int) -> list[int]:
        """Returns the partitions of this share, of so many."""
        return list(range(self.index, number, self.of))


HOST = "host"
"""In place of a share's number: the number at the end of the host name, as in worker-3."""


def parse_share(text: str, host_name: str) -> Share:
    """Returns the share that a text such as 0/4 or host/4 means; raises ValueError with the mistake in one sentence."""
    index, slash, of = text.partition("/")
    if not slash or not _is_number(of) or not (index == HOST or _is_number(index)):
        raise ValueError("a share is I/N, such as 0/4 for the first of four, or host/N")
    if index == HOST:
        index = host_name.rpartition("-")[2]
        if "-" not in host_name or not _is_number(index):
            raise ValueError(f"host/{of} needs a host name that ends with a number, as in worker-3; it is {host_name}")
    share = Share(int(index), int(of))
    if share.index >= share.of:
        raise ValueError(f"share {share.index}/{share.of} doesn't exist: they are numbered from 0 to {share.of - 1}")
    return share


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6
