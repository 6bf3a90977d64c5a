"""What a batch of frames may hold: the rules of the contract for every call with columns, the same at both ends. Pure."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from handcounter.pacing.schedule import MAX_STREAM_NAME_LENGTH, MAX_TS, stream_name_error, ts_error, valid_names
from handcounter.pacing.times import StreamTime

Frames: TypeAlias = Sequence[tuple[str, StreamTime]]
"""A batch: stream_name and ts of each frame, in the order in which they are decided."""

MAX_BATCH: Final = 4096
"""The most frames in one request, and the most streams in one report of leased denials."""

MAX_REQUEST_BYTES: Final = MAX_BATCH * (2 * (4 * MAX_STREAM_NAME_LENGTH + 3) + 8 + 80) + 64
"""The largest request: names of four-byte characters with their tag and length, the capture times, and reports."""

MAX_BATCH_BYTES: Final = MAX_BATCH * (4 * MAX_STREAM_NAME_LENGTH + 3 + 9) + 64
"""The largest request without reports."""

MAX_WATCH_BYTES: Final = MAX_BATCH * (2 * (4 * MAX_STREAM_NAME_LENGTH + 3) + 9) + 64
"""The largest request of a watch: streams to watch, the rates of their sources, and streams to drop."""


def too_long(items: int, what: str = "frames") -> str | None:
    """Returns the error for a request with too many frames or reports; None if it has at most MAX_BATCH."""
    return f"a batch may have at most {MAX_BATCH} {what}, got {items}" if items > MAX_BATCH else None


def uneven(stream_names: int, tss: int, what: str = "ts") -> str | None:
    """Returns the error for columns that differ in length; None if they don't."""
    if stream_names == tss:
        return None
    return f"{what} must be empty or as long as stream_names, got {tss} {what} for {stream_names} stream_names"


def batch_error(stream_names: Sequence[str], tss: Sequence[float]) -> str | None:
    """Returns the error for the first bad frame of a batch, with its index; None if all frames are valid.

    Args:
        stream_names: a column of the batch.
        tss: the other column, as long as the first.
    """
    for index, (name, ts) in enumerate(zip(stream_names, tss, strict=True)):
        if not (0.0 <= ts <= MAX_TS and name in valid_names) and (error := frame_error(name, ts)):
            return f"frame {index}: {error}"
    return None


def frame_error(stream_name: str, ts: float) -> str | None:
    """Returns the error for a frame's name or capture time; None if both are valid."""
    return stream_name_error(stream_name) or ts_error(ts)
