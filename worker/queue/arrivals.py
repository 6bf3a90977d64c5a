"""When Redis took in an entry, whatever its id says. Pure.

An id contains the time of arrival only if Redis made it by a clock that was right. Publishers may choose ids, and after an
id in the future Redis keeps its time for all entries that follow, however long. So an id is believed only as far as it fits
what was seen: an entry behind the queue's last id at one read, and not behind that at the next, arrived between the two.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

_TRUSTED_S = 1.0
"""How far a time may lie outside of what was seen. Redis takes the time of an id a little earlier than that of a reply."""

_MOST_READS = 10_000
"""Reads remembered while entries wait. Of those before them only the order is known, which makes times less exact."""

QUEUED_AT = b"queued_at"
"""The field in which our publishers note the time by Redis' clock, Unix seconds."""


class _Read(NamedTuple):
    last_id: tuple[int, int]
    """The queue's last id at the read."""
    at: float
    """Time of the read, Unix seconds by Redis' clock."""


class Arrivals:
    """Dates the entries that one consumer reads, which come in the order of their ids."""

    def __init__(self) -> None:
        self._before = -math.inf
        """Time of the last read at which the entries that come next weren't in the queue yet."""
        self._reads: deque[_Read] = deque(maxlen=_MOST_READS)
        self._dated = (-1, -1)
        """The last entry that was dated."""

    def note_read(self, last_id: bytes, at: float) -> None:
        """Notes the queue's last id at a read, Unix seconds by Redis' clock. For each read, before its entries are dated."""
        read, reads = _Read(_parsed(last_id), at), self._reads
        if reads and read.last_id < reads[-1].last_id:  # the queue was deleted, and this is another one
            self._before = reads[-1].at
            reads.clear()
        if (
            len(reads) >= 2 and read.last_id == reads[-2].last_id
        ):  # nothing came: the first and the last such read matter
            reads.pop()
        reads.append(read)

    def shift(self, seconds: float) -> None:
        """Follows Redis' clock after it was set by this many seconds."""
        self._before += seconds
        self._reads = deque((read._replace(at=read.at + seconds) for read in self._reads), maxlen=_MOST_READS)

    def date(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> float:
        """Returns when Redis took in an entry of the last read, Unix seconds by its clock."""
        number = _parsed(entry_id)
        reads = self._reads
        if number <= self._dated:  # the group was set back, so the entry may have been here for long
            self._before = -math.inf
        self._dated = number
        while len(reads) > 1 and reads[0].last_id < number:
            self._before = reads.popleft().at
        return _within(self._before, claimed_arrival(number[0] / 1000.0, fields), reads[0].at)


def claimed_arrival(id_time: float, fields: Mapping[bytes, bytes]) -> float:
    """Returns the time that the publisher noted in an entry, or else that of its id."""
    try:
        queued_at = float(fields[QUEUED_AT])
    except (KeyError, ValueError):
        return id_time
    return queued_at if math.isfinite(queued_at) else id_time


def _within(earliest: float, claimed: float, latest: float) -> float:
    if claimed > latest + _TRUSTED_S:
        return latest
    return claimed if claimed >= earliest - _TRUSTED_S else earliest


def _parsed(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)
