"""Random and mutated requests over the wire; the long run is ``python -m fuzz``."""

import asyncio
import gzip
import math
from typing import Any

import grpc
import pytest
from support.processes.sidecars import sidecar_process

from fuzz.__main__ import is_complaint
from fuzz.oracle import allowed_statuses
from fuzz.requests import SERVICE, Call, Generator
from fuzz.runner import CANARY_FPS, Fuzzer
from fuzz.session_oracle import session_error
from handcounter.pacing.bounds import MAX_REQUEST_BYTES
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

REQUESTS = 3000
GROWTH_BYTES = 24 << 20
"""A leak of 8 KiB per request; the long run is stricter."""

METHODS = {method.name: method for method in SERVICE.methods}


@pytest.mark.parametrize("seed", [20_261_122])
def test_invalid_requests_do_no_harm(seed: int) -> None:
    """Every call ends with a status of the contract, answers are consistent, other clients are unaffected, no log lines."""
    with sidecar_process("--max-streams", "2000", fps=CANARY_FPS) as sidecar:
        outcome = asyncio.run(Fuzzer(sidecar.address, sidecar.pid, seed).run(REQUESTS))
        assert sidecar.process.poll() is None
        complaints = [line for line in sidecar.logs().splitlines() if is_complaint(line)]
    assert outcome.defects == []
    assert complaints == []
    assert outcome.growth_bytes < GROWTH_BYTES
    kinds = {status for status, count in outcome.statuses.items() if count >= 20}
    assert {
        f"{name} {status}"
        for name in ("ShouldProcess", "ShouldProcessBatch", "ShouldProcessSession", "WatchLimits")
        for status in ("OK", "INVALID_ARGUMENT")
    } <= kinds
    assert outcome.responses > REQUESTS / 10


def test_the_same_seed_makes_the_same_calls() -> None:
    """A seed reproduces its calls."""
    first, second, other = ([generator.call() for _ in range(50)] for generator in map(Generator, (1, 1, 2)))
    assert first == second != other


def test_the_judge_can_say_no() -> None:
    """The expected statuses are those of the contract, whatever the sidecar answers."""

    def allowed(method: str, request: bytes) -> set[str]:
        return {status.name for status in allowed_statuses(Call(METHODS[method], [request]))}

    good = pb.ShouldProcessRequest(stream_name="cam1", ts=1.0).SerializeToString()
    assert allowed("ShouldProcess", good) == {"OK"}
    assert allowed("ShouldProcess", pb.ShouldProcessRequest(ts=1.0).SerializeToString()) == {"INVALID_ARGUMENT"}
    assert allowed("ShouldProcess", good[:-1]) == {"INVALID_ARGUMENT"}
    long = pb.ShouldProcessBatchRequest(stream_names=["cam1"] * 4097).SerializeToString()
    assert allowed("ShouldProcessBatch", long) == {"RESOURCE_EXHAUSTED"}
    for watch, status in (
        (pb.WatchLimitsRequest(stream_names=["a", "b"], source_fps=[0.0, 25.0]), "OK"),
        (pb.WatchLimitsRequest(stream_names=["a", "b"], source_fps=[25.0]), "INVALID_ARGUMENT"),
        (pb.WatchLimitsRequest(stream_names=["a"], source_fps=[math.nan]), "INVALID_ARGUMENT"),
        (pb.WatchLimitsRequest(dropped_stream_names=["a"] * 4097), "RESOURCE_EXHAUSTED"),
    ):
        assert allowed("WatchLimits", watch.SerializeToString()) == {status}
    assert allowed("ShouldProcessBatch", pb.ShouldProcessBatchRequest(ts=[1.0]).SerializeToString()) == {
        "INVALID_ARGUMENT"
    }


SESSION = METHODS["ShouldProcessSession"]
TWO_STREAMS = pb.ShouldProcessSessionRequest(stream_names=["a", "b", "a", "a"], ts=[10.0, 20.0, 10.5, 9.0])
BY_THE_RULE: dict[str, list[Any]] = {
    "should_process": [True, True, False, False],
    "reasons": [pb.REASON_ADMITTED, pb.REASON_ADMITTED, pb.REASON_TOO_SOON, pb.REASON_LATE],
    "fps": [1.0] * 4,
    "next_ts": [11.0, 21.0, 11.0, 11.0],
    "last_ts": [10.0, 20.0, 10.0, 10.0],
}


def answered(**columns: list[Any]) -> bytes:
    """Returns the answer to TWO_STREAMS, with some columns replaced."""
    return pb.ShouldProcessSessionResponse(answers=pb.SessionAnswers(**{**BY_THE_RULE, **columns})).SerializeToString()


def dropped(*names: str, all_streams: bool = False) -> bytes:
    drop = pb.DroppedLeases(stream_names=names, all_streams=all_streams)
    return pb.ShouldProcessSessionResponse(dropped_leases=drop).SerializeToString()


GOOD_RESPONSES = {
    "bare": [answered()],
    "one dropped": [answered(), dropped("b")],
    "dropped one by one": [answered(), dropped("b"), dropped("a")],
    "all dropped": [answered(), dropped(all_streams=True)],
    "no room for a stream": [
        answered(
            should_process=[False, True, False, False],
            reasons=[pb.REASON_TOO_SOON, pb.REASON_ADMITTED, pb.REASON_TOO_SOON, pb.REASON_TOO_SOON],
            next_ts=[0.0, 21.0, 0.0, 0.0],
            last_ts=[0.0, 20.0, 0.0, 0.0],
        )
    ],
}
BAD_RESPONSES = {
    "none": [],
    "not a message": [b"\xff\xff"],
    "an empty response": [b""],
    "answered twice": [answered(), answered()],
    "a column too short": [answered(fps=[1.0] * 3)],
    "no leases": [answered(next_ts=[], last_ts=[])],
    "inverted": [answered(should_process=[False, False, True, True])],
    "no reason": [answered(reasons=[pb.REASON_UNSPECIFIED, *BY_THE_RULE["reasons"][1:]])],
    "another reason": [answered(reasons=[*BY_THE_RULE["reasons"][:3], pb.REASON_DUPLICATE])],
    "an admission denied": [
        answered(should_process=[True, False, False, False], reasons=[1, *[pb.REASON_TOO_SOON] * 3])
    ],
    "paused, but not at 0": [answered(reasons=[1, 1, pb.REASON_PAUSED, pb.REASON_LATE])],
    "an invalid fps": [answered(fps=[math.nan, 1.0, 1.0, 1.0])],
    "an invalid next_ts": [answered(next_ts=[11.0, math.nan, 11.0, 11.0])],
    "next_ts too far": [answered(next_ts=[11.0, 22.0, 11.0, 11.0])],
    "next_ts in the past": [answered(next_ts=[11.0, 19.0, 11.0, 11.0])],
    "last_ts of another frame": [answered(last_ts=[10.0, 20.1, 10.0, 10.0])],
    "two leases on a stream": [answered(next_ts=[11.0, 21.0, 11.0, 10.9])],
    "a drop without names": [answered(), dropped()],
    "dropped before it was leased": [dropped("a"), answered()],
    "dropped without a lease": [answered(), dropped("c")],
    "dropped twice": [answered(), dropped("a"), dropped("a")],
    "named twice in a drop": [answered(), dropped("a", "a")],
    "all and some": [answered(), dropped("a", all_streams=True)],
    "all, without any lease": [answered(), dropped(all_streams=True), dropped(all_streams=True)],
}


@pytest.mark.parametrize("responses", GOOD_RESPONSES.values(), ids=GOOD_RESPONSES.keys())
def test_the_judge_of_sessions_can_say_yes(responses: list[bytes]) -> None:
    assert session_error(Call(SESSION, [TWO_STREAMS.SerializeToString()]), responses) == ""


@pytest.mark.parametrize("responses", BAD_RESPONSES.values(), ids=BAD_RESPONSES.keys())
def test_the_judge_of_sessions_can_say_no(responses: list[bytes]) -> None:
    assert session_error(Call(SESSION, [TWO_STREAMS.SerializeToString()]), responses) != ""


BAD_REQUESTS = {
    "INVALID_ARGUMENT": [
        pb.ShouldProcessSessionRequest(stream_names=[""], ts=[1.0]),
        pb.ShouldProcessSessionRequest(stream_names=["a"], ts=[math.nan]),
        pb.ShouldProcessSessionRequest(stream_names=["a"], ts=[1.0, 2.0]),
        pb.ShouldProcessSessionRequest(leased_denials=[pb.LeasedDenials(stream_name="a")]),
        pb.ShouldProcessSessionRequest(leased_denials=[pb.LeasedDenials(last_reason=pb.REASON_LATE)]),
        pb.ShouldProcessSessionRequest(
            leased_denials=[pb.LeasedDenials(stream_name="a", late=-1, last_reason=pb.REASON_LATE)]
        ),
        pb.ShouldProcessSessionRequest(
            leased_denials=[pb.LeasedDenials(stream_name="a", last_reason=pb.REASON_LATE, age_seconds=math.inf)]
        ),
    ],
    "RESOURCE_EXHAUSTED": [
        pb.ShouldProcessSessionRequest(stream_names=["a"] * 4097),
        pb.ShouldProcessSessionRequest(leased_denials=[pb.LeasedDenials()] * 4097),
    ],
}


@pytest.mark.parametrize(
    ("status", "bad"), [(status, bad) for status, requests in BAD_REQUESTS.items() for bad in requests]
)
def test_a_session_is_to_end_with_its_first_bad_request(status: str, bad: pb.ShouldProcessSessionRequest) -> None:
    """It ends with that request's status, after the valid requests before it were answered; later ones aren't answered."""
    good = TWO_STREAMS.SerializeToString()
    call = Call(SESSION, [good, bad.SerializeToString(), good])
    assert {allowed.name for allowed in allowed_statuses(call)} == {status}
    assert session_error(call, [answered()]) == ""
    assert session_error(call, []) != ""
    assert session_error(call, [], whole=False) == ""
    assert session_error(call, [answered()] * 2, whole=False) != ""


UNDECODABLE = {"corrupt": b"\xff\xff", "cut off": b"\x0a\x09cam", "not UTF-8": b"\x0a\x02\xff\xfe"}


@pytest.mark.parametrize("request_bytes", UNDECODABLE.values(), ids=UNDECODABLE.keys())
@pytest.mark.parametrize("method", ["ShouldProcess", "ShouldProcessBatch", "ListStreams"])
def test_bytes_that_are_not_a_message_are_rejected_without_a_log_line(
    shared_sidecar, method: str, request_bytes: bytes
) -> None:
    """Bytes that aren't a message get INVALID_ARGUMENT and are counted, and no traceback is logged."""
    sidecar, channel = shared_sidecar
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE.full_name}/{method}")(request_bytes, timeout=120)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not any(map(is_complaint, sidecar.logs().splitlines()))


def test_too_large_a_request_is_rejected_before_it_takes_memory(shared_sidecar) -> None:
    """A message that is larger than any valid one gets RESOURCE_EXHAUSTED, also if it is small until decompressed."""
    _, channel = shared_sidecar
    request = pb.ShouldProcessRequest(stream_name="x" * (MAX_REQUEST_BYTES + 1)).SerializeToString()
    assert len(gzip.compress(request)) < 1 << 16
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{SERVICE.full_name}/ShouldProcess")(request, timeout=120, compression=compression)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, compression


@pytest.fixture(scope="module")
def shared_sidecar():
    """Yields a sidecar and a channel to it."""
    with sidecar_process() as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        yield sidecar, channel
