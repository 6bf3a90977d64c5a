"""Between the contract's messages and the client's values.

On the wire a ``next_ts`` of 0 means that there is none: the answer grants no lease, or the sidecar doesn't say. Here
that is None.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, cast

from handcounter.client.leases import Denials
from handcounter.pacing.schedule import Reason
from handcounter.pacing.times import StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

_REASONS: Final = {int(reason): reason for reason in Reason}
_AT_LEAST_0: Final = (0.0).__le__
"""Whether a number is neither negative nor NaN."""


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
    if not len(columns.should_process) == len(columns.reasons) == len(columns.fps) == len(columns.next_ts) == frames:
        return None
    if not all(map(_AT_LEAST_0, columns.fps)):
        return None
    reasons: list[Reason | None] = [_REASONS.get(number) for number in columns.reasons]
    unread = frozenset(columns.unread_limits)
    if None in reasons and not all(
        number in _REASONS or (number == pb.REASON_UNSPECIFIED and place in unread)
        for place, number in enumerate(columns.reasons)
    ):
        return None
    next_ts = [ts if ts > 0.0 else None for ts in cast(Sequence[StreamTime], columns.next_ts)]
    return Answers(columns.should_process, reasons, columns.fps, next_ts, unread)


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
