"""A frame as it travels through the queue, and the ways in which its delivery can end. Pure.

An entry of the queue has these fields:

    stream_name   the camera stream, 1 to 256 characters, UTF-8
    ts            capture time by the frame's own clock, seconds, decimal; absent: the entry's time of arrival
    frame_key     the key that holds the encoded picture (the normal way), or
    frame         the encoded picture itself
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from handcounter.pacing.schedule import Reason, stream_name_error, ts_error


class SkipReason(enum.StrEnum):
    """Why a frame was not counted although nothing is wrong with it."""

    TOO_SOON = "too_soon"
    PAUSED = "paused"
    DUPLICATE = "duplicate"
    LATE = "late"
    STALE = "stale"
    """Older than --max-age when its turn came."""
    PAYLOAD_EXPIRED = "payload_expired"
    """The key that held the picture is gone."""


class DeadReason(enum.StrEnum):
    """What is wrong with an entry that no worker can ever count."""

    BAD_STREAM_NAME = "bad_stream_name"
    BAD_TS = "bad_ts"
    NO_PAYLOAD = "no_payload"
    """Neither frame_key nor frame."""
    UNDECODABLE = "undecodable"
    """The payload is no picture."""
    TRIMMED = "trimmed"
    """The queue dropped the entry while a worker held it."""
    FAILED = "failed"
    """Counting it raised an error, again and again."""


SKIP_OF_REASON = {
    Reason.TOO_SOON: SkipReason.TOO_SOON,
    Reason.PAUSED: SkipReason.PAUSED,
    Reason.DUPLICATE: SkipReason.DUPLICATE,
    Reason.LATE: SkipReason.LATE,
}
"""The skip that each denial of the sidecar becomes."""


class EntryError(ValueError):
    """An entry that makes no sense; says why, and how its delivery ends."""

    def __init__(self, reason: DeadReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry of the queue, checked."""

    entry_id: str
    """Milliseconds of the arrival by Redis' clock, a dash and a sequence number."""
    stream_name: str
    ts: float
    """Capture time, seconds by the frame's own clock."""
    frame_key: bytes | None
    """The key of the payload; None where the payload came inline."""
    payload: bytes | None
    """The encoded picture, where it came inline."""
    redelivered: bool = False
    """Whether a worker held it before, and died."""

    @property
    def arrived_at(self) -> float:
        """When the entry came into the queue, Unix seconds by Redis' clock."""
        return arrival_time(self.entry_id)


def arrival_time(entry_id: str) -> float:
    """The time in an entry's id, Unix seconds by Redis' clock."""
    return int(entry_id.partition("-")[0]) / 1000.0


def encode_entry(stream_name: str, ts: float, frame_key: str) -> dict[str, str]:
    """Gives the fields of an entry whose payload lies under its own key. Raises ValueError for a bad name or ts."""
    error = stream_name_error(stream_name) or ts_error(ts)
    if error:
        raise ValueError(error)
    return {"stream_name": stream_name, "ts": repr(ts), "frame_key": frame_key}


def parse_entry(entry_id: str, fields: Mapping[bytes, bytes], *, redelivered: bool = False) -> Frame:
    """Checks an entry by the same rules as the sidecar. Raises EntryError."""
    stream_name = _stream_name(fields.get(b"stream_name"))
    ts = _ts(fields.get(b"ts"), entry_id)
    frame_key, payload = fields.get(b"frame_key"), fields.get(b"frame")
    if not frame_key and not payload:
        raise EntryError(DeadReason.NO_PAYLOAD, "the entry has neither frame_key nor frame")
    return Frame(entry_id, stream_name, ts, None if payload else frame_key, payload or None, redelivered)


def _stream_name(raw: bytes | None) -> str:
    if raw is None:
        raise EntryError(DeadReason.BAD_STREAM_NAME, "the entry has no stream_name")
    try:
        stream_name = raw.decode()
    except UnicodeDecodeError:
        raise EntryError(DeadReason.BAD_STREAM_NAME, f"stream_name is not UTF-8: {raw[:32]!r}") from None
    if error := stream_name_error(stream_name):
        raise EntryError(DeadReason.BAD_STREAM_NAME, error)
    return stream_name


def _ts(raw: bytes | None, entry_id: str) -> float:
    if raw is None:
        return arrival_time(entry_id)
    try:
        ts = float(raw.replace(b"_", b"?"))  # Python would read 1_000 as a thousand
    except ValueError:
        raise EntryError(DeadReason.BAD_TS, f"ts is not a number: {raw[:32]!r}") from None
    if error := ts_error(ts):
        raise EntryError(DeadReason.BAD_TS, error)
    return ts
