"""Decisions as protobuf messages.

The contract has no empty values, so here the few that exist inside get theirs: a ``next_ts`` of 0 where any ts would be
admitted and where there is no lease, a ``last_ts`` of 0 where nothing was admitted.
"""

from collections.abc import Sequence
from typing import Any, cast

from handcounter.pacing.times import StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.deciding.decider import Answers, Lease
from sidecar.deciding.limiter import StreamStatus
from sidecar.limits.values import FpsSource


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
        next_ts=[due if due > 0.0 else 0.0 for due in answers.next_ts],
    )


def session_answers(answers: Answers, leases: Sequence[Lease | None]) -> pb.SessionAnswers:
    """Returns the answers about a session's batch, and the leases that they grant."""
    return pb.SessionAnswers(
        should_process=answers.should_process,
        reasons=cast(Any, answers.reasons),
        fps=answers.fps,
        next_ts=[0.0 if lease is None else lease.next_ts for lease in leases],
        last_ts=[0.0 if lease is None or lease.last_ts is None else lease.last_ts for lease in leases],
    )


def stream_status(status: StreamStatus) -> pb.StreamStatus:
    """Returns the state of a stream."""
    fields = status._asdict()
    fields["last_ts"] = status.last_ts or 0.0
    fields["next_ts"] = _next_ts(status.next_ts)
    return pb.StreamStatus(**fields)


def _next_ts(due: StreamTime) -> StreamTime:
    return due if due > 0.0 else StreamTime(0.0)
