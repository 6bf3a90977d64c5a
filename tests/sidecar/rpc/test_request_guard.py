"""What is refused before a servicer gets it; over a real gRPC server in this process."""

import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from support.waiting import until

from handcounter.pacing.bounds import MAX_BATCH, MAX_BATCH_BYTES
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar.rpc import places
from sidecar.rpc.request_guard import MAX_SMALL_BYTES, Refusal, refusing_malformed

SERVICE = "/handcounter.ratelimit.v1.RateLimitService"
MOST_CALLS = 20
INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED


class Servicer(rate_limit_pb2_grpc.RateLimitServiceServicer):
    """Counts what reaches it."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self.session_requests: list[Any] = []
        self.locals: list[weakref.ref[Any]] = []

    async def ShouldProcess(self, request: pb.ShouldProcessRequest, context: Any) -> pb.ShouldProcessResponse:  # noqa: N802
        self.reached["ShouldProcess"] += 1
        if not request.stream_name:
            local = Counter[str]()
            self.locals.append(weakref.ref(local))
            await context.abort(INVALID, "no name")
        return pb.ShouldProcessResponse(fps=3.0)

    async def ShouldProcessBatch(self, request: Any, context: Any) -> pb.ShouldProcessBatchResponse:  # noqa: N802, ARG002
        self.reached["ShouldProcessBatch"] += 1
        return pb.ShouldProcessBatchResponse(fps=[1.0] * len(request.stream_names))

    async def ShouldProcessSession(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802, ARG002
        while (request := await context.read()) is not grpc.aio.EOF:
            self.session_requests.append(request)


class Guarded:
    """A guarded server, what it refused by method, and a channel to it."""

    def __init__(self, servicer: Servicer, refused: Counter[str], channel: "grpc.aio.Channel") -> None:
        self.servicer = servicer
        self.refused = refused
        self.channel = channel

    async def call(self, method: str, request: bytes) -> tuple[grpc.StatusCode, str]:
        """Returns how a call ended."""
        call = self.channel.unary_unary(f"{SERVICE}/{method}")(request, timeout=120)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call
        return await call.code(), await call.details() or ""


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    """A server of the contract that answers everything."""
    servicer, refused = Servicer(), Counter[str]()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    registrar = refusing_malformed(server, lambda method: refused.update([method]), MOST_CALLS)
    rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(servicer, registrar)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Guarded(servicer, refused, channel)
    await server.stop(None)


GOOD = pb.ShouldProcessBatchRequest(stream_names=["a"] * MAX_BATCH).SerializeToString()

MALFORMED = {
    "no message": ("ShouldProcess", b"\xff\xff", INVALID, "isn't a message of this method's type"),
    "too large": ("ShouldProcess", b"x" * (MAX_SMALL_BYTES + 1), EXHAUSTED, f"at most {MAX_SMALL_BYTES} bytes"),
    "too large batch": ("ShouldProcessBatch", b"x" * (MAX_BATCH_BYTES + 1), EXHAUSTED, f"{MAX_BATCH_BYTES} bytes"),
    "too many frames": (
        "ShouldProcessBatch",
        pb.ShouldProcessBatchRequest(stream_names=["a"] * (MAX_BATCH + 1), ts=[1.0]).SerializeToString(),
        EXHAUSTED,
        "a batch may have at most 4096 frames, got 4097",
    ),
    "too few ts": (
        "ShouldProcessBatch",
        pb.ShouldProcessBatchRequest(stream_names=["a", "b"], ts=[1.0]).SerializeToString(),
        INVALID,
        "got 1 ts for 2 stream_names",
    ),
    "ts alone": (
        "ShouldProcessBatch",
        pb.ShouldProcessBatchRequest(ts=[1.0] * 100_000).SerializeToString(),
        INVALID,
        "got 100000 ts for 0 stream_names",
    ),
}


@pytest.mark.parametrize(("method", "request_bytes", "status", "message"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_requests_dont_reach_the_servicer(
    guarded: Guarded, method: str, request_bytes: bytes, status: grpc.StatusCode, message: str
) -> None:
    """Each is refused with its status and counted; the next valid call is served."""
    code, details = await guarded.call(method, request_bytes)
    assert code is status
    assert message in details
    assert guarded.servicer.reached == Counter()
    assert guarded.refused == Counter([method])
    assert (await guarded.call("ShouldProcessBatch", GOOD))[0] is grpc.StatusCode.OK


async def test_an_abort_of_the_servicer_is_passed_on(guarded: Guarded) -> None:
    """What the servicer refuses itself keeps its status, and isn't counted here."""
    assert await guarded.call("ShouldProcess", b"") == (INVALID, "no name")
    assert guarded.refused == Counter()


async def test_a_session_reads_refusals(guarded: Guarded) -> None:
    """In place of a malformed request a session's servicer reads a refusal, and goes on reading if it likes."""
    reports = pb.ShouldProcessSessionRequest(leased_denials=[pb.LeasedDenials()] * (MAX_BATCH + 1))
    uneven = pb.ShouldProcessSessionRequest(stream_names=["a"], ts=[1.0, 2.0])
    good = pb.ShouldProcessSessionRequest(stream_names=["a"], ts=[1.0])
    requests = [b"\xff\xff", reports.SerializeToString(), uneven.SerializeToString(), good.SerializeToString()]
    session = guarded.channel.stream_stream(f"{SERVICE}/ShouldProcessSession")(timeout=120)
    for request in requests:
        await session.write(request)
    await session.done_writing()
    assert await session.code() is grpc.StatusCode.OK
    no_message, too_many, mismatch, read = guarded.servicer.session_requests
    assert (no_message.status, too_many.status, mismatch.status) == (INVALID, EXHAUSTED, INVALID)
    assert too_many == Refusal(EXHAUSTED, "a batch may have at most 4096 reports, got 4097")
    assert "got 2 ts for 1 stream_names" in mismatch.message
    assert read == good


async def test_an_aborted_call_keeps_no_frames(guarded: Guarded) -> None:
    """What its frames hold is released without the garbage collector, which might not run for long."""
    gc.disable()
    try:
        assert (await guarded.call("ShouldProcess", b""))[0] is INVALID
        (local,) = guarded.servicer.locals
        # The client may learn of the end before the call's coroutine is over.
        await until(lambda: local() is None, "the frames are released")
    finally:
        gc.enable()


@pytest.mark.parametrize("method", ["ShouldProcess", "ShouldProcessBatch", "ListStreams"])
async def test_a_half_sent_call_ends(
    guarded: Guarded, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A call whose request doesn't arrive is refused after a time, and a call whose client ends it is just over."""
    monkeypatch.setattr(places, "REQUEST_S", 0.2)
    never_sent = guarded.channel.stream_unary(f"{SERVICE}/{method}")(timeout=120)
    assert await never_sent.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await never_sent.details() == "the request didn't arrive within 0.2 s"
    assert guarded.refused == Counter([method])
    monkeypatch.setattr(places, "REQUEST_S", 120.0)
    without_request = guarded.channel.stream_unary(f"{SERVICE}/{method}")(timeout=120)
    await without_request.done_writing()
    assert await without_request.code() is INVALID
    given_up = guarded.channel.stream_unary(f"{SERVICE}/{method}")(timeout=0.1)
    assert await given_up.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await guarded.call("ShouldProcessBatch", GOOD))[0] is grpc.StatusCode.OK
    assert not caplog.records
