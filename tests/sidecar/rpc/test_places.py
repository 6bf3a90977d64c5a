"""Who gets a place when there are more calls than places; over a real gRPC server in this process."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from support.waiting import DEADLINE_S, until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar.rpc.request_guard import refusing_malformed

SERVICE = "/handcounter.ratelimit.v1.RateLimitService"
OK, EXHAUSTED, CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PLACES = 3
LOST = (EXHAUSTED, "the request hadn't arrived when another call needed the place")


class Servicer(rate_limit_pb2_grpc.RateLimitServiceServicer):
    """Answers at once, but for the stream "slow", which waits for a word; refuses a stream without a name."""

    def __init__(self) -> None:
        self.in_progress = 0
        self.go_on = asyncio.Event()

    async def ShouldProcess(self, request: Any, context: Any) -> pb.ShouldProcessResponse:  # noqa: N802
        if not request.stream_name:
            await context.abort(INVALID, "no name")
        if request.stream_name == "slow":
            self.in_progress += 1
            await self.go_on.wait()
        return pb.ShouldProcessResponse(fps=3.0)

    async def ShouldProcessSession(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        request = await anext(request_iterator, grpc.aio.EOF)
        while request is not grpc.aio.EOF:
            await context.write(pb.ShouldProcessSessionResponse())
            request = await context.read()


class Server:
    """A server with a few places, what it refused by method, and a channel to it."""

    def __init__(self, servicer: Servicer, refused: Counter[str], channel: "grpc.aio.Channel") -> None:
        self.servicer = servicer
        self.refused = refused
        self.channel = channel

    async def ask(self, stream_name: str = "cam") -> grpc.StatusCode:
        """Returns the status of a call."""
        call = self.channel.unary_unary(f"{SERVICE}/ShouldProcess")(
            pb.ShouldProcessRequest(stream_name=stream_name).SerializeToString(), timeout=120
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call
        return await call.code()

    async def half_sent(self, method: str = "ShouldProcess") -> "grpc.aio.StreamUnaryCall[Any, Any]":
        """Returns a call that the server knows of and whose request it will never get."""
        call = self.channel.stream_unary(f"{SERVICE}/{method}")(timeout=120)
        await call.wait_for_connection()
        return call


@pytest.fixture
async def served() -> AsyncIterator[Server]:
    """Yields a server whose own bound on calls is far away."""
    servicer, refused = Servicer(), Counter[str]()
    server = grpc.aio.server()
    guarded = refusing_malformed(server, lambda method: refused.update([method]), PLACES)
    rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(servicer, guarded)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Server(servicer, refused, channel)
    await server.stop(None)


async def end_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Returns how a call ended."""
    return await call.code(), await call.details()


@pytest.mark.parametrize("method", ["ShouldProcess", "ShouldProcessSession"])
async def test_a_half_sent_call_makes_room(served: Server, method: str) -> None:
    """The one that has waited longest does, and only if its place is needed."""
    calls = [await served.half_sent(method) for _ in range(PLACES)]
    # A call is known to the server once a later one on the same connection is answered.
    assert await served.ask() is OK
    assert await end_of(calls[0]) == LOST
    assert not calls[1].done()
    assert not calls[2].done()
    assert await served.ask() is OK  # in the place of the first call
    assert not calls[1].done()
    await until(lambda: served.refused == Counter([method]), "it is counted")


async def test_any_number_of_half_sent_calls_refuses_no_good_one(served: Server) -> None:
    """A hundred times as many as there are places, and a good call after each few."""
    calls = []
    for _ in range(100):
        calls += [await served.half_sent() for _ in range(PLACES)]
        assert await served.ask() is OK
    for call in calls:
        call.cancel()


async def test_calls_that_have_arrived_keep_their_places(served: Server) -> None:
    """One more is refused; when one has been answered, there is room again."""
    asked = [asyncio.create_task(served.ask("slow")) for _ in range(PLACES)]
    await until(lambda: served.servicer.in_progress == PLACES, "all places are taken")
    one_more = await served.half_sent()
    assert await end_of(one_more) == (EXHAUSTED, f"at most {PLACES} calls may be open")
    assert await served.ask() is EXHAUSTED
    served.servicer.go_on.set()
    assert await asyncio.gather(*asked) == [OK] * PLACES
    assert await served.ask() is OK


async def test_a_session_in_progress_keeps_its_place(served: Server) -> None:
    """Between its requests there may be any time; its first one is what has to arrive."""
    sessions = [served.channel.stream_stream(f"{SERVICE}/ShouldProcessSession")(timeout=120) for _ in range(PLACES)]
    for session in sessions:
        await session.write(b"")
        await session.read()
    assert await served.ask() is EXHAUSTED
    sessions[0].cancel()

    async with asyncio.timeout(DEADLINE_S):
        while await served.ask() is EXHAUSTED:
            pass
    for session in sessions[1:]:
        await session.write(b"")
        await session.read()
        session.cancel()


async def test_however_a_call_ends_its_place_is_free(served: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Answered, malformed, aborted by the servicer, without a request, or given up by the client before or after it."""
    for _ in range(3 * PLACES):
        assert await served.ask() is OK
        assert await served.ask("") is INVALID
        malformed = served.channel.unary_unary(f"{SERVICE}/ShouldProcess")(b"\xff", timeout=120)
        assert await malformed.code() is INVALID
        (await served.half_sent()).cancel()
        before = served.servicer.in_progress
        slow = asyncio.create_task(served.ask("slow"))
        await until(lambda before=before: served.servicer.in_progress > before, "it is in progress")  # type: ignore[misc]
        slow.cancel()
        without = await served.half_sent()
        await without.done_writing()
        assert await without.code() is INVALID
    assert await served.ask() is OK
    assert not caplog.records
