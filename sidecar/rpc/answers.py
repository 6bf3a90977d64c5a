"""Decisions as protobuf messages.

The contract has no empty values, so here the few that exist inside get theirs: a ``next_ts`` of 0 where any ts would be
admitted and where there is no lease, a ``last_ts`` of 0 where nothing was admitted.
"""

from collections.abc import Sequence
from typing import Any, cast

from handcounter.pacing.schedule import ANY_TIME
from handcounter.pacing.times import StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.deciding.decider import Answers, Lease
from sidecar.deciding.limiter import StreamStatus
from sidecar.limits.values import FpsSource

_NO_LEASE = Lease(None, StreamTime(0.0))
"""On the wire."""


def one_answer(answers: Answers, source: FpsSource) -> pb.ShouldProcessResponse:
    """Returns the answer about a batch of one frame, whose limit has this source."""
    answer = pb.ShouldProcessResponse()  # setting fields takes half as long as passing them
    answer.should_process = answers.should_process[0]
    answer.reason = cast(pb.Reason, answers.reasons[0])
    answer.fps = answers.fps[0]
    answer.fps_source = cast(pb.FpsSource, source)
    answer.stale = answers.stale
    answer.next_ts = _next_ts(answers.next_ts[0])
    return answer


def batch_answers(answers: Answers) -> pb.ShouldProcessBatchResponse:
    """Returns the answers about a batch."""
    return pb.ShouldProcessBatchResponse(
        should_process=answers.should_process,
        reasons=cast(Any, answers.reasons),
        fps=answers.fps,
        next_ts=_next_ts_column(answers.next_ts),
    )


def session_answers(answers: Answers, leases: Sequence[Lease | None]) -> pb.SessionAnswers:
    """Returns the answers about a session's batch, and the leases that they grant."""
    edges = [_NO_LEASE if lease is None else lease for lease in leases]
    return pb.SessionAnswers(
        should_process=answers.should_process,
        reasons=cast(Any, answers.reasons),
        fps=answers.fps,
        next_ts=[next_ts for _, next_ts in edges],
        last_ts=[last_ts or 0.0 for last_ts, _ in edges],
    )


def stream_status(status: StreamStatus) -> pb.StreamStatus:
    """Returns the state of a stream."""
    fields = status._asdict()
    fields["last_ts"] = status.last_ts or 0.0
    fields["next_ts"] = _next_ts(status.next_ts)
    return pb.StreamStatus(**fields)


def _next_ts_column(next_ts: list[StreamTime]) -> list[StreamTime]:
    return [_next_ts(due) for due in next_ts] if ANY_TIME in next_ts else next_ts


def _next_ts(due: StreamTime) -> StreamTime:
    return due if due > 0.0 else StreamTime(0.0)
