"""What the contract demands of a session's responses: answers, leases and revocations. Pure."""

from collections.abc import Sequence
from typing import Any

from fuzz.oracle import (
    MAX_BATCH,
    MAX_TS,
    columns_error,
    decision_error,
    good_requests,
    latest_next_ts,
    tss_of,
    undecided_error,
)
from fuzz.requests import Call, decoded
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

LATE_WINDOW_S = 2.0


def session_error(call: Call, responses: Sequence[bytes], whole: bool = True) -> str:
    """Returns what is wrong with the responses of a session; empty if nothing is.

    Args:
        call: the requests.
        responses: the responses, in order.
        whole: whether these are all responses; otherwise the last ones may be missing.
    """
    waiting = good_requests(call)
    asked = len(waiting)
    leased: set[str] = set()
    """The streams on which the client holds a lease."""
    for number, data in enumerate(responses):
        response = decoded(call.method.output_type, data)
        event = None if response is None else response.WhichOneof("event")
        if event == "answers":
            if not waiting:
                return f"response {number}: a bad request is answered, or none; {asked} were good"
            request = waiting.pop(0)
            error = _answers_error(request, response.answers)
            leased.difference_update(request.stream_names)
            leased.update(_leased(request, response.answers))
        elif event == "dropped_leases":
            error = _drop_error(response.dropped_leases, leased)
            leased.difference_update([*leased] if response.dropped_leases.all_streams else _dropped(response))
        else:
            error = "it can't be decoded, or is empty"
        if error:
            return f"response {number}: {error}"
    return f"{asked} good requests, {asked - len(waiting)} answers" if waiting and whole else ""


def _leased(request: Any, answers: pb.SessionAnswers) -> list[str]:
    return [name for name, next_ts in zip(request.stream_names, answers.next_ts, strict=False) if next_ts]


def _dropped(response: pb.ShouldProcessSessionResponse) -> Sequence[str]:
    return response.dropped_leases.stream_names


def _drop_error(dropped: pb.DroppedLeases, leased: set[str]) -> str:
    """Returns what is wrong with a revocation: it names streams or means all, and only granted leases can be revoked."""
    names = dropped.stream_names
    if dropped.all_streams:
        return f"{len(names)} names beside all streams, {len(leased)} leases" if names or not leased else ""
    if not 1 <= len(names) <= MAX_BATCH or len(set(names)) < len(names):
        return f"{len(names)} streams dropped, {len(set(names))} different ones"
    strangers = set(names) - leased
    return f"dropped without a lease: {sorted(strangers)[:3]}" if strangers else ""


def _answers_error(request: Any, answers: pb.SessionAnswers) -> str:
    columns = (answers.should_process, answers.reasons, answers.fps, answers.next_ts, answers.last_ts)
    if error := columns_error(request, columns):
        return error
    if request.known_limits_only:
        return undecided_error(answers.should_process, answers.reasons) or ("a lease" if any(answers.next_ts) else "")
    names, tss = request.stream_names, tss_of(request)
    last_admitted = {
        name: row for row, (name, yes) in enumerate(zip(names, answers.should_process, strict=True)) if yes
    }
    leases: dict[str, tuple[float, float]] = {}
    for row, (name, ts, *answer) in enumerate(zip(names, tss, *columns, strict=True)):
        _, reason, fps, next_ts, last_ts = answer
        error = _frame_error(ts, row - last_admitted.get(name, -1), *answer)
        if not error and leases.setdefault(name, (next_ts, last_ts)) != (next_ts, last_ts):
            error = "the stream has another lease in the same answer"
        if error:
            return f"frame {row} of ts {ts}, reason {reason}, fps {fps}, next_ts {next_ts}, last_ts {last_ts}: {error}"
    return ""


def _frame_error(
    ts: float | None, since_admitted: int, yes: bool, reason: int, fps: float, next_ts: float, last_ts: float
) -> str:
    """Returns what is wrong with the decision about one frame and its lease; empty if nothing is.

    The lease reflects the state after the stream's last frame, so it doesn't cover frames before the last admitted one. Those
    have a since_admitted below 0; the last admitted frame has 0.
    """
    if since_admitted < 0:
        ts = None
    if error := decision_error(ts, yes, reason, fps, next_ts) or _lease_error(fps, next_ts, last_ts):
        return error
    if ts is None:
        return ""
    if since_admitted == 0:
        return "" if ts == last_ts else "it was the last one admitted"
    return "" if reason == _reason_by_lease(ts, fps, next_ts, last_ts) else "the lease says otherwise"


def _lease_error(fps: float, next_ts: float, last_ts: float) -> str:
    if not 0.0 <= last_ts <= MAX_TS:
        return "no such last_ts"
    if next_ts == 0.0:
        return "last_ts without a lease" if last_ts else ""
    return "" if fps == 0.0 or last_ts < next_ts <= latest_next_ts(last_ts, fps) else "no such next_ts"


def _reason_by_lease(ts: float, fps: float, next_ts: float, last_ts: float) -> int:
    """Returns why a lease denies a frame; ADMITTED if it doesn't."""
    if fps == 0.0:
        return pb.REASON_PAUSED
    if next_ts == 0.0:
        return pb.REASON_TOO_SOON  # there was no room for the stream
    if ts >= next_ts:
        return pb.REASON_ADMITTED
    if ts == last_ts:
        return pb.REASON_DUPLICATE
    # An older frame would have restarted the clock, but not within a period of real time.
    return pb.REASON_LATE if last_ts - LATE_WINDOW_S <= ts < last_ts else pb.REASON_TOO_SOON
