"""A delivery, an entry of the queue that this worker holds, and the three ways to settle it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from worker.queue.frame import DeadReason, Frame, SkipReason

DEAD_FIELD_BYTES = 512
"""How much of each field's name and value a dead letter keeps: enough to see what is wrong with it."""

DEAD_FIELDS_BYTES = 2048
"""How much of all fields a dead letter keeps. With the message, 10,000 dead letters take at most about 30 MB."""

DEAD_MESSAGE_BYTES = 512

_OVERHEAD_BYTES = 16
"""What a field takes in Redis besides its name and value: its prefix and the lengths, about."""

_FIRST = (b"stream_name", b"ts", b"frame_key")
"""The fields that a dead letter keeps before all others."""


class Delivery(NamedTuple):
    """An entry as the queue delivered it."""

    entry_id: str
    fields: dict[bytes, bytes]
    times_delivered: int
    """1 at the first delivery; each earlier one ended with a crash of its worker. While a delivery waits for the limit of its
    stream, Redis has one less, because waiting isn't to blame for a crash."""
    arrived_at: float | None = None
    """When Redis received the entry, Unix seconds by its clock; see :mod:`worker.queue.arrivals`. None: as its id says."""

    def without_picture(self) -> "Delivery":
        """Returns the delivery without the picture inside the entry, which can be fetched again."""
        return self._replace(fields={name: value for name, value in self.fields.items() if name != b"frame"})

    def with_short_picture(self) -> "Delivery":
        """Returns the delivery with as much of the picture inside the entry as a dead letter keeps."""
        picture = self.fields.get(b"frame", b"")
        if len(picture) <= DEAD_FIELD_BYTES:
            return self
        return self._replace(fields={**self.fields, b"frame": picture[:DEAD_FIELD_BYTES]})


@dataclass(frozen=True, slots=True)
class Job:
    """An admitted frame and its encoded picture, to be counted."""

    frame: Frame
    """Without its picture, which only ``payload`` has, so that its memory is freed once it is decoded."""
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
    frame_key: bytes | None = None
    """The key that the entry named, if any; likewise below."""
    age: float = 0.0
    """Of the entry when counting began, seconds."""
    width: int = 0
    """Of the picture, pixels."""
    height: int = 0
    preview: bytes = b""
    """The annotated picture, a JPEG; empty if there is none of this frame."""

    def shown(self) -> dict[str, str | int | float]:
        """Returns the fields of the stream's hash that this result sets."""
        return {
            "ts": repr(self.ts),
            "entry_id": self.entry_id,
            "hand_count": self.hand_count,
            "width": self.width,
            "height": self.height,
            "age": round(self.age, 4),
            "result": self.result,
        }


class Skipped(NamedTuple):
    """Settles a delivery that is not worth counting."""

    entry_id: str
    reason: SkipReason
    stream_name: str = ""
    frame_key: bytes | None = None


class Dead(NamedTuple):
    """Settles a delivery that no worker can count; it becomes a dead letter."""

    entry_id: str
    reason: DeadReason
    message: str
    fields: tuple[tuple[bytes, bytes], ...]
    """Names and values of the entry's own fields, shortened."""
    frame_key: bytes | None = None


Settled: TypeAlias = Counted | Skipped | Dead
"""How a delivery ends: in exactly one of these."""


S = TypeVar("S", bound=Settled)


def without(settled: Sequence[S], left: Sequence[S]) -> Sequence[S]:
    """Returns those deliveries that aren't among others."""
    if not left:
        return settled
    others = {each.entry_id for each in left}
    return [each for each in settled if each.entry_id not in others]


def skipped(frame: Frame, reason: SkipReason) -> Skipped:
    """Returns what settles a frame that is not worth counting."""
    return Skipped(frame.entry_id, reason, frame.stream_name, frame.frame_key)


def dead_letter(delivery: Delivery, reason: DeadReason, message: str) -> Dead:
    """Returns what settles an entry that no worker can count, bounded in size however large the entry is."""
    short = message.encode(errors="replace")[:DEAD_MESSAGE_BYTES].decode(errors="ignore")
    return Dead(
        delivery.entry_id, reason, short, tuple(_shortened(delivery.fields)), delivery.fields.get(b"frame_key") or None
    )


def _shortened(fields: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yields what a dead letter keeps of an entry's fields, the most telling ones first."""
    room = DEAD_FIELDS_BYTES
    for name in sorted(fields, key=lambda name: name not in _FIRST):
        kept = name[:DEAD_FIELD_BYTES], fields[name][:DEAD_FIELD_BYTES]
        room -= len(kept[0]) + len(kept[1]) + _OVERHEAD_BYTES
        if room < 0:
            return
        yield kept
