"""Decisions as protobuf messages.

The contract has no empty values, so here the few that exist inside get theirs: a ``next_ts`` of 0 where any ts would be
admitted and where there is no lease, a ``last_ts`` of 0 where nothing was admitted.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

from handcounter.pacing.schedule import ANY_TIME, Pacing
from handcounter.pacing.times import StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.deciding.decider import Answer, Answers, Lease
from sidecar.deciding.limiter import StreamStatus
from sidecar.limits.table import FpsTable

_NO_LEASE = Lease(None, StreamTime(0.0))
"""On the wire."""

_PACINGS: Final = {Pacing.GCRA: pb.PACING_GCRA, Pacing.MIN_GAP: pb.PACING_MIN_GAP}


def one_answer(answer: Answer) -> pb.ShouldProcessResponse:
    """Returns the answer about one frame."""
    response = pb.ShouldProcessResponse()  # setting fields takes half as long as passing them
    response.should_process, response.reason, (response.fps, response.fps_source), due, response.stale, unread = answer  # type: ignore[assignment]
    response.next_ts = due if due > 0.0 else 0.0
    if unread:
        response.limit_unread = True
    return response


def batch_answers(answers: Answers) -> pb.ShouldProcessBatchResponse:
    """Returns the answers about a batch."""
    should_process, reasons, fps, next_ts, stale, unread = answers
    response = pb.ShouldProcessBatchResponse(
        should_process=should_process, reasons=cast(Any, reasons), fps=fps, next_ts=_next_ts_column(next_ts)
    )
    if stale:
        response.stale = True
    if unread:
        response.unread_limits.extend(unread)
    return response


def session_answers(answers: Answers, leases: Sequence[Lease | None]) -> pb.ShouldProcessSessionResponse:
    """Returns the answers about a session's batch, and the leases that they grant."""
    should_process, reasons, fps, _, stale, unread = answers
    edges = [_NO_LEASE if lease is None else lease for lease in leases]
    message = pb.ShouldProcessSessionResponse()
    # In place, since a message that is passed to another one's constructor is copied.
    told = message.answers
    told.should_process.extend(should_process)
    told.reasons.extend(cast(Any, reasons))
    told.fps.extend(fps)
    told.next_ts.extend([next_ts for _, next_ts in edges])
    told.last_ts.extend([last_ts or 0.0 for last_ts, _ in edges])
    if stale:
        told.stale = True
    if unread:
        told.unread_limits.extend(unread)
    return message


def stream_status(status: StreamStatus) -> pb.StreamStatus:
    """Returns the state of a stream."""
    fields = status._asdict()
    fields["last_ts"] = status.last_ts or 0.0
    fields["next_ts"] = _next_ts(status.next_ts)
    return pb.StreamStatus(**fields)


def told_limits(
    stream_names: Sequence[str], table: FpsTable, pacing: Pacing, *, shadow: bool
) -> pb.WatchLimitsResponse:
    """Returns the limits of streams as they are now, for a watcher."""
    told = pb.WatchLimitsResponse(stale=table.stale, pacing=_PACINGS[pacing], shadow=shadow)
    for name in stream_names:
        limit = table.limit_in_force(name)
        one = told.limits.add(
            stream_name=name,
            fps=limit.fps,
            fps_source=cast(pb.FpsSource, limit.source),
            invalid_value=table.invalid_value(name),
            limit_unread=name in table.unread,
            pattern=limit.pattern,
            boost_until=limit.boost_until,
        )
        if limit.after_boost is not None:
            one.after_boost.fps = limit.after_boost.fps
            one.after_boost.fps_source = cast(pb.FpsSource, limit.after_boost.source)
            one.after_boost.pattern = limit.after_boost.pattern
    return told


def _next_ts_column(next_ts: list[StreamTime]) -> list[StreamTime]:
    return [_next_ts(due) for due in next_ts] if ANY_TIME in next_ts else next_ts


def _next_ts(due: StreamTime) -> StreamTime:
    return due if due > 0.0 else StreamTime(0.0)
