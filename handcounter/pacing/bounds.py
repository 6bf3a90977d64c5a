"""What a batch of frames may look like; the rules of the contract that hold for every call with columns. Pure."""

from collections.abc import Sequence
from typing import Final

from handcounter.pacing.schedule import MAX_STREAM_NAME_LENGTH, MAX_TS, stream_name_error, ts_error

MAX_BATCH: Final = 4096
"""Frames in one request, and streams in one report."""

MAX_REQUEST_BYTES: Final = MAX_BATCH * (2 * (4 * MAX_STREAM_NAME_LENGTH + 3) + 8 + 80) + 64
"""The largest request: names of four-byte characters with their tag and length, the capture times, and reports."""

MAX_BATCH_BYTES: Final = MAX_BATCH * (4 * MAX_STREAM_NAME_LENGTH + 3 + 9) + 64
"""The largest batch without reports."""


def too_long(frames: int, what: str = "frames") -> str | None:
    """Returns an error if a request has too many items, else None."""
    return f"a batch may have at most {MAX_BATCH} {what}, got {frames}" if frames > MAX_BATCH else None


def uneven(stream_names: int, tss: int) -> str | None:
    """Returns an error if the columns of a batch differ in length, else None."""
    if stream_names == tss:
        return None
    return f"ts must be empty or as long as stream_names, got {tss} ts for {stream_names} stream_names"


def batch_error(stream_names: Sequence[str], tss: Sequence[float]) -> str | None:
    """Returns what is wrong with the first invalid frame of a batch, by its index; None if all are valid.

    Args:
        stream_names: A column of the batch.
        tss: The other column, as long as the first.
    """
    for index, (name, ts) in enumerate(zip(stream_names, tss, strict=True)):
        if not (0.0 <= ts <= MAX_TS and 0 < len(name) <= MAX_STREAM_NAME_LENGTH):
            return f"frame {index}: {stream_name_error(name) or ts_error(ts)}"
    return None
