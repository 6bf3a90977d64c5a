"""What the contract demands of an answer: the status of a call, and answers that make sense. Pure."""

import math
from collections.abc import Sequence

import grpc

from fuzz.requests import Call, decoded
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

OK, INVALID_ARGUMENT = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
MAX_BATCH = 4096
MAX_TS = 1e11
MAX_NAME = 256


def allowed_statuses(call: Call) -> set[grpc.StatusCode]:
    """The statuses that a call may end with."""
    requests = [decoded(call.method.input_type, data) for data in call.requests]
    if call.method.client_streaming:
        bare = all(request is not None and not request.leased_denials for request in requests)
        if bare and all(_columns_are_good(request.stream_names, request.ts) for request in requests):
            return {OK}
        return {OK, INVALID_ARGUMENT}  # reports have rules of their own, which its unit tests know
    (request,) = requests
    if request is None:
        return {INVALID_ARGUMENT}
    if call.method.name == "ShouldProcess":
        good = _name_is_good(request.stream_name) and (not request.HasField("ts") or _ts_is_good(request.ts))
    elif call.method.name == "ShouldProcessBatch":
        good = _columns_are_good(request.stream_names, request.ts)
    elif call.method.name == "ListStreams":
        if request.page_size >= 0 and request.page_token:
            return {OK, INVALID_ARGUMENT}  # a token means something to the server alone
        good = request.page_size >= 0
    else:
        good = True
    return {OK} if good else {INVALID_ARGUMENT}


def answer_error(call: Call, answer: bytes) -> str:
    """Says what makes no sense in the answer to a call that was not a session; empty for a good one."""
    message = decoded(call.method.output_type, answer)
    request = decoded(call.method.input_type, call.requests[0])
    if message is None:
        return "the answer can't be decoded"
    if isinstance(message, pb.ShouldProcessResponse):
        return _decision_error(message.should_process, message.reason, message.fps, message.next_ts)
    if isinstance(message, pb.ShouldProcessBatchResponse):
        columns = (message.should_process, message.reasons, message.fps, message.next_ts)
        if {len(column) for column in columns} != {len(request.stream_names)}:
            return f"{len(request.stream_names)} frames, but columns of {[len(column) for column in columns]}"
        return next(filter(None, (_decision_error(*row) for row in zip(*columns, strict=True))), "")
    if isinstance(message, pb.ListStreamsResponse):
        names = [stream.stream_name for stream in message.streams]
        if names != sorted(names) or not all(name.startswith(request.name_prefix) for name in names):
            return "the page is out of order, or has names without the prefix"
    return ""


def _decision_error(should_process: bool, reason: int, fps: float, next_ts: float) -> str:
    if reason not in range(1, 6) or should_process != (reason == pb.REASON_ADMITTED):
        return f"should_process {should_process}, reason {reason}"
    return f"fps {fps}, next_ts {next_ts}" if not fps >= 0.0 or math.isnan(next_ts) else ""


def _columns_are_good(names: Sequence[str], tss: Sequence[float]) -> bool:
    return (
        len(names) <= MAX_BATCH
        and (not tss or len(tss) == len(names))
        and all(map(_name_is_good, names))
        and all(map(_ts_is_good, tss))
    )


def _name_is_good(name: str) -> bool:
    return 1 <= len(name) <= MAX_NAME


def _ts_is_good(ts: float) -> bool:
    return 0.0 <= ts <= MAX_TS
