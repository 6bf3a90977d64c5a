"""Between the contract's messages and the client's values.

On the wire a ``next_ts`` of 0 means that there is none: the answer grants no lease, or the sidecar doesn't say. Here
that is None.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, cast

from handcounter.client.leases import Denials
from handcounter.pacing.schedule import Reason
from handcounter.pacing.times import StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

_REASONS: Final = {int(reason): reason for reason in Reason}


class Columns(Protocol):
    """The answers to a batch, as the contract has them in a call of its own and in a session."""

    @property
    def should_process(self) -> Sequence[bool]:
        """Whether each frame may be processed."""

    @property
    def reasons(self) -> Sequence[int]:
        """Why each frame was admitted or denied."""

    @property
    def fps(self) -> Sequence[float]:
        """The limit in force for each frame's stream."""

    @property
    def next_ts(self) -> Sequence[float]:
        """The earliest ts that would be admitted after each decision."""

    @property
    def unread_limits(self) -> Sequence[int]:
        """The places of the frames whose stream's limit the sidecar has never read."""


class Answers(NamedTuple):
    """The sidecar's answers to a batch, one item per frame in each column."""

    should_process: Sequence[bool]
    """True for an admitted frame, and in shadow mode for every frame."""
    reasons: list[Reason | None]
    """None for a frame that the sidecar didn't decide, because it has never read the limit of its stream."""
    fps: Sequence[float]
    """The limit in force, frames per second."""
    next_ts: list[StreamTime | None]
    """The earliest ts that would be admitted, seconds by the stream's clock; None: the answer doesn't say."""
    unread: frozenset[int]
    """The places of the frames whose stream's limit the sidecar has never read; their fps is only assumed."""


def read_answers(columns: Columns, frames: int) -> Answers | None:
    """Returns the answers to so many frames; None if they don't fit the frames or aren't valid.

    A foreign or broken server may answer anything.
    """
    # As lists: each pass over a column of protobuf takes many times as long as one over a list.
    should_process, numbers, fps, next_ts = (
        columns.should_process[:],
        columns.reasons[:],
        columns.fps[:],
        columns.next_ts[:],
    )
    if not len(should_process) == len(numbers) == len(fps) == len(next_ts) == frames:
        return None
    if not _lowest(fps) >= 0.0:
        return None
    reasons: list[Reason | None] = list(map(_REASONS.get, numbers))
    unread = frozenset(columns.unread_limits)
    if None in reasons and not all(
        number in _REASONS or (number == pb.REASON_UNSPECIFIED and place in unread)
        for place, number in enumerate(numbers)
    ):
        return None
    due = cast(list[StreamTime | None], next_ts)
    if not _lowest(next_ts) > 0.0:
        due = [StreamTime(ts) if ts > 0.0 else None for ts in next_ts]
    return Answers(should_process, reasons, fps, due, unread)


def _lowest(numbers: Sequence[float]) -> float:
    """Returns the lowest of some numbers; NaN if one of them is, which no comparison would find; infinity if there are none."""
    return math.nan if math.isnan(sum(numbers)) else min(numbers, default=math.inf)


def to_report(denials: Denials) -> pb.LeasedDenials:
    """Returns the message that reports what leases denied on one stream."""
    return pb.LeasedDenials(
        stream_name=denials.stream_name,
        too_soon=denials.frames[Reason.TOO_SOON],
        paused=denials.frames[Reason.PAUSED],
        duplicate=denials.frames[Reason.DUPLICATE],
        late=denials.frames[Reason.LATE],
        last_ts=denials.last_ts,
        last_reason=cast(pb.Reason, denials.last_reason),
        age_seconds=denials.age,
    )
