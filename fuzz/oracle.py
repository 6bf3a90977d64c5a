"""What the contract demands: the status of each call, and consistent answers. Pure.

It follows the contract, not the sidecar's code, for a sidecar in pod scope without Redis. ``session_oracle`` judges
the responses of sessions.
"""

import functools
import itertools
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import grpc

from fuzz.requests import Call, decoded
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

OK, INVALID_ARGUMENT = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
MAX_BATCH = 4096
MAX_TS = 1e11
MAX_NAME = 256
MAX_DENIED = 2**31


def allowed_statuses(call: Call) -> set[grpc.StatusCode]:
    """Returns the statuses that a call may end with: those for its first invalid request, or OK if all are valid."""
    requests = (decoded(call.method.input_type, data) for data in call.requests)
    demanded = (_statuses_after(call.method.name, request) for request in requests)
    return next((statuses for statuses in demanded if statuses != {OK}), {OK})


def good_requests(call: Call) -> list[Any]:
    """Returns the decoded requests of a session before its first invalid one: those that must be answered."""
    requests = (decoded(call.method.input_type, data) for data in call.requests)
    return list(itertools.takewhile(lambda request: _statuses_after(call.method.name, request) == {OK}, requests))


def _statuses_after(method: str, request: Any) -> set[grpc.StatusCode]:
    if request is None:
        return {INVALID_ARGUMENT}
    if method == "ShouldProcess":
        good = _name_is_good(request.stream_name) and (not request.HasField("ts") or _ts_is_good(request.ts))
    elif method in ("ShouldProcessBatch", "ShouldProcessSession"):
        reports = request.leased_denials if method == "ShouldProcessSession" else ()
        if max(len(request.stream_names), len(reports)) > MAX_BATCH:
            return {RESOURCE_EXHAUSTED}
        good = _columns_are_good(request.stream_names, request.ts) and all(map(_report_is_good, reports))
    elif method == "WatchLimits":
        names, rates = request.stream_names, request.source_fps
        if max(len(names), len(request.dropped_stream_names)) > MAX_BATCH:
            return {RESOURCE_EXHAUSTED}
        good = len(rates) in (0, len(names)) and all(map(_name_is_good, names))
        good = good and all(0.0 <= rate < math.inf for rate in rates)
    elif method == "ListStreams":
        if request.page_size >= 0 and request.page_token:
            return {OK, INVALID_ARGUMENT}  # only the server can tell whether a token is valid
        good = request.page_size >= 0
    else:
        good = True
    return {OK} if good else {INVALID_ARGUMENT}


def answer_error(call: Call, answer: bytes) -> str:
    """Returns what is wrong with the answer to a call that isn't a session; empty if nothing is."""
    message = decoded(call.method.output_type, answer)
    request = decoded(call.method.input_type, call.requests[0])
    if message is None:
        return "the answer can't be decoded"
    if isinstance(message, pb.ShouldProcessResponse):
        if request.known_limits_only:
            return undecided_error([message.should_process], [message.reason])
        ts = request.ts if request.HasField("ts") else None
        return decision_error(ts, message.should_process, message.reason, message.fps, message.next_ts)
    if isinstance(message, pb.ShouldProcessBatchResponse):
        columns = (message.should_process, message.reasons, message.fps, message.next_ts)
        if error := columns_error(request, columns):
            return error
        if request.known_limits_only:
            return undecided_error(message.should_process, message.reasons)
        rows = zip(tss_of(request), *columns, strict=True)
        return next(filter(None, (decision_error(*row) for row in rows)), "")
    if isinstance(message, pb.ListStreamsResponse):
        names = [stream.stream_name for stream in message.streams]
        if names != sorted(names) or not all(name.startswith(request.name_prefix) for name in names):
            return "the page is out of order, or has names without the prefix"
    return ""


def undecided_error(should_process: Sequence[bool], reasons: Sequence[int]) -> str:
    """Returns what is wrong with answers about streams whose limits were never read, if only known limits were asked for."""
    decided = any(should_process) or any(reasons)
    return "frames are decided whose limits were never read" if decided else ""


def columns_error(request: Any, columns: Sequence[Sequence[Any]]) -> str:
    """Returns an error if the columns aren't as long as the request's; else an empty text."""
    lengths = [len(column) for column in columns]
    frames = len(request.stream_names)
    return "" if set(lengths) == {frames} else f"{frames} frames, but columns of {lengths}"


def tss_of(request: Any) -> Sequence[float | None]:
    """Returns the capture times of the frames; None for those that are the time of arrival."""
    return request.ts or [None] * len(request.stream_names)


def decision_error(ts: float | None, should_process: bool, reason: int, fps: float, next_ts: float) -> str:
    """Returns what is wrong with the decision about one frame; empty if nothing is.

    Args:
        ts: the frame's; None if unknown.
        should_process: whether the frame was admitted.
        reason: the reason of the decision.
        fps: the limit in force.
        next_ts: the next_ts after this decision.
    """
    if reason not in range(1, 6) or should_process != (reason == pb.REASON_ADMITTED):
        return f"should_process {should_process}, reason {reason}"
    if not fps >= 0.0 or math.isnan(next_ts):
        return f"fps {fps}, next_ts {next_ts}"
    if (reason == pb.REASON_PAUSED) != (fps == 0.0) or (fps == 0.0 and next_ts != math.inf):
        return f"reason {reason} at fps {fps}, next_ts {next_ts}"
    if ts is None or (reason == pb.REASON_TOO_SOON and next_ts == 0.0):  # there was no room for the stream
        return ""
    if next_ts <= ts:
        return f"reason {reason} at ts {ts}, next_ts {next_ts}"
    if reason == pb.REASON_ADMITTED and next_ts > latest_next_ts(ts, fps):
        return f"admitted at ts {ts} and fps {fps}, next_ts {next_ts}"
    return ""


def latest_next_ts(last_ts: float, fps: float) -> float:
    """Returns the latest next_ts that is allowed: one period after the last admitted frame, with room for rounding."""
    return last_ts + 1.0 / fps + 1e-6 + 4 * math.ulp(last_ts) if fps > 0.0 else math.inf


def _columns_are_good(names: Sequence[str], tss: Sequence[float]) -> bool:
    return (
        len(names) <= MAX_BATCH
        and (not tss or len(tss) == len(names))
        and all(map(_name_is_good, names))
        and all(map(_ts_is_good, tss))
    )


def _report_is_good(report: Any) -> bool:
    return (
        _name_is_good(report.stream_name)
        and _ts_is_good(report.last_ts)
        and all(0 <= count <= MAX_DENIED for count in (report.too_soon, report.paused, report.duplicate, report.late))
        and report.last_reason in range(2, 6)
        and 0.0 <= report.age_seconds < math.inf
    )


@functools.lru_cache(4096)
def _name_is_good(name: str) -> bool:
    visible = not any(
        unicodedata.category(character) in ("Cc", "Zl", "Zp") or character == "\ufeff" for character in name
    )
    return 1 <= len(name) <= MAX_NAME and visible and name.strip() == name


def _ts_is_good(ts: float) -> bool:
    return 0.0 <= ts <= MAX_TS
