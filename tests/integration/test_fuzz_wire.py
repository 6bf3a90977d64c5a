"""Random and mutated requests over the wire; the long run is ``python -m fuzz``."""

import asyncio
import gzip

import grpc
import pytest
from servers import sidecar_process

from fuzz.__main__ import is_complaint
from fuzz.oracle import allowed_statuses
from fuzz.requests import SERVICE, Call, Generator
from fuzz.runner import CANARY_FPS, Fuzzer
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from sidecar.batch import MAX_REQUEST_BYTES

REQUESTS = 6000
GROWTH_BYTES = 24 << 20
"""A leak of 8 KiB per request; the long run is stricter."""

METHODS = {method.name: method for method in SERVICE.methods}


@pytest.mark.parametrize("seed", [20_261_122])
def test_nonsense_does_no_harm(seed: int) -> None:
    """Every call ends with a status of the contract, bystanders are decided by the rule, and nothing is logged."""
    with sidecar_process("--max-streams", "500", fps=CANARY_FPS) as sidecar:
        outcome = asyncio.run(Fuzzer(sidecar.address, sidecar.pid, seed).run(REQUESTS))
        assert sidecar.process.poll() is None
        complaints = [line for line in sidecar.logs().splitlines() if is_complaint(line)]
    assert outcome.defects == []
    assert complaints == []
    assert outcome.growth_bytes < GROWTH_BYTES
    kinds = {status for status, count in outcome.statuses.items() if count >= 20}
    assert {
        f"{name} {status}" for name in ("ShouldProcess", "ShouldProcessBatch") for status in ("OK", "INVALID_ARGUMENT")
    } <= kinds


def test_the_same_seed_makes_the_same_calls() -> None:
    """A defect can be brought about again by its seed."""
    first, second, other = ([generator.call() for _ in range(50)] for generator in map(Generator, (1, 1, 2)))
    assert first == second != other


def test_the_judge_can_say_no() -> None:
    """The expected statuses are those of the contract, not whatever comes back."""

    def allowed(method: str, request: bytes) -> set[str]:
        return {status.name for status in allowed_statuses(Call(METHODS[method], [request]))}

    good = pb.ShouldProcessRequest(stream_name="cam1", ts=1.0).SerializeToString()
    assert allowed("ShouldProcess", good) == {"OK"}
    assert allowed("ShouldProcess", pb.ShouldProcessRequest(ts=1.0).SerializeToString()) == {"INVALID_ARGUMENT"}
    assert allowed("ShouldProcess", good[:-1]) == {"INVALID_ARGUMENT"}
    long = pb.ShouldProcessBatchRequest(stream_names=["cam1"] * 4097).SerializeToString()
    assert allowed("ShouldProcessBatch", long) == {"RESOURCE_EXHAUSTED"}
    assert allowed("ShouldProcessBatch", pb.ShouldProcessBatchRequest(ts=[1.0]).SerializeToString()) == {
        "INVALID_ARGUMENT"
    }


UNDECODABLE = {"corrupt": b"\xff\xff", "cut off": b"\x0a\x09cam", "not UTF-8": b"\x0a\x02\xff\xfe"}


@pytest.mark.parametrize("request_bytes", UNDECODABLE.values(), ids=UNDECODABLE.keys())
@pytest.mark.parametrize("method", ["ShouldProcess", "ShouldProcessBatch", "ListStreams"])
def test_what_is_no_message_is_refused_without_a_word(shared_sidecar, method: str, request_bytes: bytes) -> None:
    """Bytes that are no message get INVALID_ARGUMENT and are counted, and no traceback fills the log."""
    sidecar, channel = shared_sidecar
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE.full_name}/{method}")(request_bytes, timeout=120)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not any(map(is_complaint, sidecar.logs().splitlines()))


def test_too_much_is_refused_before_it_takes_memory(shared_sidecar) -> None:
    """A message beyond the largest sensible one gets RESOURCE_EXHAUSTED, also where it is small until it is unpacked."""
    _, channel = shared_sidecar
    request = pb.ShouldProcessRequest(stream_name="x" * (MAX_REQUEST_BYTES + 1)).SerializeToString()
    assert len(gzip.compress(request)) < 1 << 16
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{SERVICE.full_name}/ShouldProcess")(request, timeout=120, compression=compression)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, compression


@pytest.fixture(scope="module")
def shared_sidecar():
    """A sidecar, and a channel to it."""
    with sidecar_process() as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        yield sidecar, channel
