"""Shadow mode: a dry run. Decisions are made and counted, but every frame is admitted."""

from collections.abc import Sequence

from handcounter.pacing.schedule import ANY_TIME, Schedule
from handcounter.pacing.times import RealTime, StreamTime
from sidecar.deciding.decider import Answer, Answers, Batch, Decider, Lease
from sidecar.deciding.stream import Stream


class ShadowDecider:
    """Admits every frame, whatever another decider decides. The reasons are the other's.

    Args:
        decider: decides.
    """

    def __init__(self, decider: Decider) -> None:
        self._decider = decider

    async def decide(self, batch: Batch, now: RealTime) -> Answers:
        """Decides frames, and answers that each may be processed, and so may any later one."""
        answers = await self._decider.decide(batch, now)
        frames = len(batch.stream_names)
        return answers._replace(should_process=[True] * frames, next_ts=[ANY_TIME] * frames)

    async def decide_one(self, stream_name: str, ts: StreamTime, now: RealTime) -> Answer:
        """Decides one frame, as a batch of one."""
        answer = await self._decider.decide_one(stream_name, ts, now)
        return answer._replace(should_process=True, next_ts=ANY_TIME)

    def leases(self, stream_names: Sequence[str]) -> list[Lease | None]:
        """Grants no lease: no client may deny a frame."""
        return [None] * len(stream_names)

    def schedule(self, stream: Stream) -> Schedule | None:
        """Returns the timing state of a stream, as the other decider has it."""
        return self._decider.schedule(stream)
