"""A frame as it travels through the queue, and why its delivery may not be counted. Pure.

An entry of the queue has these fields:

    stream_name   the camera stream, 1 to 256 characters, UTF-8
    ts            capture time by the frame's own clock, seconds, decimal; if absent, the time of the entry's arrival
    frame_key     the key that holds the encoded picture (the usual way), or
    frame         the encoded picture itself
    live          0 if the frame may wait: it is never stale nor superseded, and live frames go first; absent: 1
    queued_at     when the publisher's script added it, Unix seconds by Redis' clock; may be absent
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from handcounter.pacing.schedule import Reason, stream_name_error, ts_error

NOT_LIVE = b"0"
"""The value of the field live of a frame that may wait."""


class SkipReason(enum.StrEnum):
    """Why a valid frame was not counted."""

    TOO_SOON = "too_soon"
    PAUSED = "paused"
    DUPLICATE = "duplicate"
    LATE = "late"
    STALE = "stale"
    """Older than --max-age when its turn came."""
    PAYLOAD_EXPIRED = "payload_expired"
    """The key of the picture doesn't exist (any more)."""
    SUPERSEDED = "superseded"
    """A newer frame of its stream was admitted before its turn came."""
    LIMIT_UNKNOWN = "limit_unknown"
    """The sidecar couldn't be asked within --max-age, and the limit of the stream is unknown: it may be paused."""


class DeadReason(enum.StrEnum):
    """Why no worker can ever count an entry."""

    BAD_STREAM_NAME = "bad_stream_name"
    BAD_TS = "bad_ts"
    NO_PAYLOAD = "no_payload"
    """The entry has neither frame_key nor frame."""
    BAD_FRAME_KEY = "bad_frame_key"
    """frame_key names a key that holds no picture, or that the worker can't read."""
    UNDECODABLE = "undecodable"
    """The payload isn't a picture that can be decoded."""
    TRIMMED = "trimmed"
    """The queue dropped the entry while a worker held it."""
    LOST = "lost"
    """The consumer group forgot the delivery, because somebody destroyed the group or deleted a consumer."""
    FAILED = "failed"
    """Every attempt to count it failed."""


SKIP_OF_REASON = {
    Reason.TOO_SOON: SkipReason.TOO_SOON,
    Reason.PAUSED: SkipReason.PAUSED,
    Reason.DUPLICATE: SkipReason.DUPLICATE,
    Reason.LATE: SkipReason.LATE,
}
"""The reason for skipping a frame, by the reason for which it was denied."""


class EntryError(ValueError):
    """An entry isn't a valid frame; carries the reason under which it is dead-lettered."""

    def __init__(self, reason: DeadReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frame:
    """A valid entry of the queue."""

    entry_id: str
    """A time in milliseconds, a dash, and a sequence number. The time is that of the arrival, unless a publisher chose it."""
    stream_name: str
    ts: float
    """Capture time, seconds by the frame's own clock."""
    frame_key: bytes | None
    """The key of the payload; None if the payload is inline."""
    payload: bytes | None
    """The encoded picture if it is inline, else None. Neither it nor a key: it is inline and has to be fetched again."""

    arrived_at: float
    """When Redis received the entry, Unix seconds by its clock."""
    live: bool = True
    """Whether it is worth counting only while it is fresh, and as long as there is no newer one."""


def arrival_time(entry_id: str) -> float:
    """Returns the time that an entry's id contains, Unix seconds; it may be wrong, see :mod:`worker.queue.arrivals`."""
    return int(entry_id.partition("-")[0]) / 1000.0


def encode_entry(stream_name: str, ts: float, frame_key: str, *, live: bool = True) -> dict[str, str]:
    """Returns the fields of an entry whose payload is under a key of its own; ValueError for an invalid name or ts."""
    error = stream_name_error(stream_name) or ts_error(ts)
    if error:
        raise ValueError(error)
    entry = {"stream_name": stream_name, "ts": repr(ts), "frame_key": frame_key}
    return entry if live else {**entry, "live": NOT_LIVE.decode()}


def parse_entry(entry_id: str, fields: Mapping[bytes, bytes], arrived_at: float | None = None) -> Frame:
    """Returns an entry as a frame, validated by the same rules as in the sidecar. Raises EntryError.

    Without a time of arrival that of the id is taken.
    """
    arrived_at = arrival_time(entry_id) if arrived_at is None else arrived_at
    stream_name = _stream_name(fields.get(b"stream_name"))
    ts = _ts(fields.get(b"ts"), arrived_at)
    frame_key, payload = fields.get(b"frame_key"), fields.get(b"frame")
    if not frame_key and not payload:
        raise EntryError(DeadReason.NO_PAYLOAD, "the entry has neither frame_key nor frame")
    live = fields.get(b"live") != NOT_LIVE
    return Frame(entry_id, stream_name, ts, None if payload else frame_key, payload or None, arrived_at, live)


def _stream_name(raw: bytes | None) -> str:
    if raw is None:
        raise EntryError(DeadReason.BAD_STREAM_NAME, "the entry has no stream_name")
    try:
        stream_name = raw.decode()
    except UnicodeDecodeError:
        raise EntryError(DeadReason.BAD_STREAM_NAME, f"stream_name isn't UTF-8: {raw[:32]!r}") from None
    if error := stream_name_error(stream_name):
        raise EntryError(DeadReason.BAD_STREAM_NAME, error)
    return stream_name


def _ts(raw: bytes | None, arrived_at: float) -> float:
    if raw is None:
        return arrived_at
    try:
        ts = float(raw.replace(b"_", b"?"))  # Python would accept 1_000 as a thousand
    except ValueError:
        raise EntryError(DeadReason.BAD_TS, f"ts isn't a number: {raw[:32]!r}") from None
    if error := ts_error(ts):
        raise EntryError(DeadReason.BAD_TS, error)
    return ts
