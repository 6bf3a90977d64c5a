"""A delivery: an entry of the queue that this worker holds, and must end in exactly one way. Pure."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from worker.queue.frame import DeadReason, Frame, SkipReason


class Delivery(NamedTuple):
    """An entry as it came from the queue."""

    entry_id: str
    fields: dict[bytes, bytes]
    times_delivered: int
    """1 at its first delivery; the others ended in a crash or in a stop."""


@dataclass(frozen=True, slots=True)
class Job:
    """A frame that was admitted, with its picture."""

    frame: Frame
    payload: bytes
    delivery: Delivery


class Ending(NamedTuple):
    """Ends a delivery as counted or dead, with the entry to write about it."""

    entry_id: str
    outcome: str
    """The field of the accounting: counted, or dead:<reason>."""
    words: Sequence[str | bytes]
    """Field, value, field, value, ... of the result or the dead letter."""
    hands: int = 0
    """How many were found."""


class Skip(NamedTuple):
    """Ends a delivery as skipped."""

    entry_id: str
    reason: SkipReason


def counted(entry_id: str, stream_name: str, ts: float, result: str, hands: int) -> Ending:
    """The ending of a frame whose hands were counted; result is JSON, see worker/results.py."""
    return Ending(entry_id, "counted", ("stream_name", stream_name, "ts", repr(ts), "result", result), hands)


DEAD_FIELDS = 16
DEAD_FIELD_BYTES = 1024
DEAD_MESSAGE_LENGTH = 2000
"""How many of an entry's fields, and how much of each, a dead letter keeps: enough to see what was wrong."""


def dead(delivery: Delivery, reason: DeadReason, message: str) -> Ending:
    """The ending of an entry that no worker can count; its own fields are kept, cut, as field:<name>."""
    message = message[:DEAD_MESSAGE_LENGTH].encode(errors="replace").decode()
    words: list[str | bytes] = ["entry_id", delivery.entry_id, "reason", reason.value, "message", message]
    for name, value in list(delivery.fields.items())[:DEAD_FIELDS]:
        words += [b"field:" + name[:DEAD_FIELD_BYTES], value[:DEAD_FIELD_BYTES]]
    return Ending(delivery.entry_id, f"dead:{reason.value}", words)


class Held:
    """The ids of all that this process holds, for its threads to share."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, entry_id: str) -> bool:
        with self._lock:
            return entry_id in self._ids

    def add(self, entry_ids: Iterable[str]) -> None:
        """Notes what was delivered."""
        with self._lock:
            self._ids.update(entry_ids)

    def remove(self, entry_ids: Iterable[str]) -> None:
        """Forgets what was ended."""
        with self._lock:
            self._ids.difference_update(entry_ids)

    def snapshot(self) -> list[str]:
        """Lists them."""
        with self._lock:
            return list(self._ids)
