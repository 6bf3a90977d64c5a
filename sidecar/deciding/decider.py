"""What decides a batch of frames: the shape that pod scope, fleet scope and shadow mode share. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from handcounter.pacing.limits import Limit
from handcounter.pacing.schedule import Schedule
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.stream import Stream

UNDECIDED: Final = 0
"""In place of the reason of a frame that wasn't decided."""


class Batch(NamedTuple):
    """Frames to decide, in columns of the same length. Only validated names and ts get in (see ``sidecar/rpc/requests.py``)."""

    stream_names: Sequence[str]
    tss: Sequence[StreamTime]


class Answers(NamedTuple):
    """The decisions about a batch, in columns, in the order of its frames."""

    should_process: list[bool]
    reasons: Sequence[int]
    """A Reason for each frame, or UNDECIDED."""
    fps: list[float]
    """The limit in force for each frame's stream, frames per second."""
    next_ts: list[StreamTime]
    """The earliest ts that would be admitted next, as :func:`schedule.next_ts` returns it."""
    stale: bool
    """Whether any of them was decided while Redis was unreachable or too slow."""
    unread: Sequence[int] = ()
    """The places of the frames whose stream's limit was never read."""


class Answer(NamedTuple):
    """The decision about one frame; its fields are those of :class:`Answers`, and the source of the limit."""

    should_process: bool
    reason: int
    limit: Limit
    next_ts: StreamTime
    stale: bool
    unread: bool = False


class Lease(NamedTuple):
    """What a client may deny without asking: frames from 2 s before ``last_ts`` up to ``next_ts``."""

    last_ts: StreamTime | None
    """The last admitted ts. None: unknown or nonexistent, but the stream is paused, so all its frames are denied."""
    next_ts: StreamTime


class Decider(Protocol):
    """Decides frames of streams whose limits are known."""

    async def decide(self, batch: Batch, now: RealTime) -> Answers:
        """Decides frames in their order, as if one by one.

        Args:
            batch: frames of streams that aren't ``unread`` (see :class:`sidecar.deciding.roster.Roster`).
            now: real time, seconds by a monotonic clock.
        """

    async def decide_one(self, stream_name: str, ts: StreamTime, now: RealTime) -> Answer:
        """Decides one frame, as a batch of one. It exists because building columns takes 4 % of a call about one frame."""

    def leases(self, stream_names: Sequence[str]) -> list[Lease | None]:
        """Returns the lease that an answer about each stream may grant now; None where nothing is certain."""

    def schedule(self, stream: Stream) -> Schedule | None:
        """Returns the timing state of a stream as far as it is known; None before the first admission."""
