"""A delivery, an entry of the queue that this worker holds, and the three ways to settle it. Pure."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from worker.queue.frame import DeadReason, Frame, SkipReason

DEAD_FIELDS = 16
"""How many of an entry's fields a dead letter keeps."""

DEAD_FIELD_BYTES = 1024
"""How much of each field's name and value a dead letter keeps: enough to see what is wrong with it."""

DEAD_MESSAGE_LENGTH = 2000
"""Characters of a dead letter's message."""


class Delivery(NamedTuple):
    """An entry as the queue delivered it."""

    entry_id: str
    fields: dict[bytes, bytes]
    times_delivered: int
    """1 at the first delivery. Each earlier one ended with a crash of its worker."""


@dataclass(frozen=True, slots=True)
class Job:
    """An admitted frame and its encoded picture, to be counted."""

    frame: Frame
    payload: bytes
    delivery: Delivery


class Counted(NamedTuple):
    """Settles a delivery whose hands were counted."""

    entry_id: str
    stream_name: str
    ts: float
    hand_count: int
    result: str
    """JSON of the schema worker/schemas/frame_result.v1.json."""


class Skipped(NamedTuple):
    """Settles a delivery that is not worth counting."""

    entry_id: str
    reason: SkipReason


class Dead(NamedTuple):
    """Settles a delivery that no worker can count; it becomes a dead letter."""

    entry_id: str
    reason: DeadReason
    message: str
    fields: tuple[tuple[bytes, bytes], ...]
    """Names and values of the entry's own fields, shortened."""


Settled: TypeAlias = Counted | Skipped | Dead
"""How a delivery ends: in exactly one of these."""


def dead_letter(delivery: Delivery, reason: DeadReason, message: str) -> Dead:
    """Returns what settles an entry that no worker can count, bounded in size however large the entry is."""
    return Dead(
        delivery.entry_id,
        reason,
        message[:DEAD_MESSAGE_LENGTH].encode(errors="replace").decode(),
        tuple(
            (name[:DEAD_FIELD_BYTES], value[:DEAD_FIELD_BYTES])
            for name, value in itertools.islice(delivery.fields.items(), DEAD_FIELDS)
        ),
    )
