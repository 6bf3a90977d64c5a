"""What requests ask for: from protobuf to validated values. An invalid request is rejected here, before anything changes.

Their sizes and shapes have been checked already, when they were decoded; see request_guard.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, cast

import grpc

from handcounter.pacing.bounds import batch_error, frame_error
from handcounter.pacing.schedule import MAX_TS, Reason, stream_name_error, valid_names
from handcounter.pacing.times import StreamTime
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.deciding.decider import Batch
from sidecar.deciding.roster import LeasedDenials

Context = grpc.aio.ServicerContext[Any, Any]

MOST_DENIED: Final = 2**31
"""Frames of one reason in a report, which is about a second of one stream. Sums of it stay far below what counters can hold."""

_DENIAL_REASONS: Final = {int(reason): reason for reason in Reason if reason is not Reason.ADMITTED}


class RejectedError(ValueError):
    """A request is rejected. Nothing was changed."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


class SessionRequest(NamedTuple):
    """A request of a session."""

    batch: Batch
    reports: Sequence[LeasedDenials]


class WatchRequest(NamedTuple):
    """A request of a watch; the first two are columns."""

    stream_names: Sequence[str]
    source_fps: Sequence[float]
    dropped: Collection[str]


def one_frame(request: pb.ShouldProcessRequest, arrival_ts: float) -> tuple[str, StreamTime]:
    """Returns the name and the ts of a request's frame.

    Args:
        request: the request.
        arrival_ts: the ts of a frame without one, Unix seconds.

    Raises:
        RejectedError: The frame is invalid.
    """
    name, ts = request.stream_name, request.ts if request.HasField("ts") else arrival_ts
    if not (0.0 <= ts <= MAX_TS and name in valid_names) and (error := frame_error(name, ts)):
        raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, error)
    return name, ts  # type: ignore[return-value]  # a call of StreamTime costs 60 ns


def frames(request: pb.ShouldProcessBatchRequest | pb.ShouldProcessSessionRequest, arrival_ts: float) -> Batch:
    """Returns the frames of a request. Arguments and errors are those of :func:`one_frame`; the error names the frame."""
    names, tss = list(request.stream_names), list(request.ts)
    if not tss:
        tss = [arrival_ts] * len(names)
    if error := batch_error(names, tss):
        raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, error)
    return Batch(names, cast(list[StreamTime], tss))


def session_request(request: pb.ShouldProcessSessionRequest, arrival_ts: float) -> SessionRequest:
    """Returns the frames and the reports of a request. Arguments and errors are those of :func:`frames`."""
    return SessionRequest(frames(request, arrival_ts), _reports(request.leased_denials))


def watch_request(request: pb.WatchLimitsRequest) -> WatchRequest:
    """Returns the streams to watch, the rates of their sources, 0 if they aren't known, and the streams to drop.

    Raises:
        RejectedError: A name or a rate is invalid.
    """
    names, source_fps = list(request.stream_names), list(request.source_fps)
    for index, name in enumerate(names):
        error = stream_name_error(name)
        if source_fps and not 0.0 <= source_fps[index] < math.inf:
            error = error or f"source_fps must be finite and not negative, got {source_fps[index]}"
        if error:
            raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, f"stream {index}: {error}")
    return WatchRequest(names, source_fps or [0.0] * len(names), frozenset(request.dropped_stream_names))


def _reports(denials: Sequence[pb.LeasedDenials]) -> list[LeasedDenials]:
    """Returns what a client denied under its leases."""
    reports = []
    for index, report in enumerate(denials):
        name, last_ts, age_s = report.stream_name, report.last_ts, report.age_seconds
        last_reason = _DENIAL_REASONS.get(report.last_reason)
        denied = (0, 0, report.too_soon, report.paused, report.duplicate, report.late)  # at the reasons' numbers
        error = frame_error(name, last_ts)
        if not 0 <= min(denied) <= max(denied) <= MOST_DENIED:
            error = f"the numbers of denied frames must be from 0 to {MOST_DENIED}"
        elif last_reason is None:
            error = f"last_reason must be that of a denial, got {report.last_reason}"
        elif not 0.0 <= age_s < math.inf:
            error = f"age_seconds must be finite and not negative, got {age_s}"
        if error or last_reason is None:
            raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, f"report {index}: {error}")
        reports.append(LeasedDenials(name, denied, StreamTime(last_ts), last_reason, age_s))
    return reports
