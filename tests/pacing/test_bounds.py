"""What a batch may hold."""

import math

import pytest

from handcounter.pacing.bounds import MAX_BATCH, MAX_BATCH_BYTES, MAX_REQUEST_BYTES, batch_error, too_long, uneven
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

LONGEST_NAME = "\U0001f590" * 256


@pytest.mark.parametrize(
    ("stream_names", "tss", "error"),
    [
        ([], [], None),
        (["a", LONGEST_NAME], [0.0, 1e11], None),
        (["a", ""], [1.0, 2.0], "frame 1: stream_name must not be empty"),
        (["x" * 257], [1.0], "frame 0: stream_name must have at most 256 characters, got 257"),
        (["a", "b"], [1.0, math.nan], "frame 1: ts must be a finite number of seconds, got nan"),
        (["a"], [-1.0], "frame 0: ts must not be negative, got -1.0"),
        (["a"], [1.7e12], "frame 0: ts must be seconds, at most 1e+11, got 1700000000000.0"),
        # If both name and ts are invalid, the name is reported.
        ([""], [-1.0], "frame 0: stream_name must not be empty"),
    ],
)
def test_batch_error(stream_names: list[str], tss: list[float], error: str | None) -> None:
    """A valid batch has no error; otherwise the error names the first invalid frame."""
    found = batch_error(stream_names, tss)
    assert found == error or (error is not None and found is not None and found.startswith(error))


def test_too_long() -> None:
    """4096 items are allowed, one more is not."""
    assert too_long(MAX_BATCH) is None
    assert too_long(MAX_BATCH + 1) == "a batch may have at most 4096 frames, got 4097"
    assert too_long(MAX_BATCH + 1, "reports") == "a batch may have at most 4096 reports, got 4097"


def test_uneven() -> None:
    """Columns must have equal lengths."""
    assert uneven(2, 2) is None
    assert uneven(2, 3) == "ts must be empty or as long as stream_names, got 3 ts for 2 stream_names"


def test_the_largest_requests_fit() -> None:
    """The byte limits hold the largest batch that the contract allows, and hardly more."""
    names, tss = [LONGEST_NAME] * MAX_BATCH, [1.0] * MAX_BATCH
    batch = pb.ShouldProcessBatchRequest(stream_names=names, ts=tss).ByteSize()
    assert 0.99 * MAX_BATCH_BYTES < batch <= MAX_BATCH_BYTES
    most = 2**31
    report = pb.LeasedDenials(
        stream_name=LONGEST_NAME,
        too_soon=most,
        paused=most,
        duplicate=most,
        late=most,
        last_ts=1.0,
        last_reason=pb.REASON_LATE,
        age_seconds=1.0,
    )
    request = pb.ShouldProcessSessionRequest(stream_names=names, ts=tss, leased_denials=[report] * MAX_BATCH).ByteSize()
    assert 0.95 * MAX_REQUEST_BYTES < request <= MAX_REQUEST_BYTES
