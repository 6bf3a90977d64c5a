"""Clients that keep their connection alive and read nothing; over plain sockets to a real gRPC server in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from support.clients.http2 import HEADERS, RST_STREAM, raw_client
from support.waiting import until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from sidecar.rpc.debugging import add_debugging_services
from sidecar.rpc.health import Health
from sidecar.rpc.request_guard import refusing_malformed
from sidecar.rpc.unread_answers import SWEEPS, UnreadAnswers, end_call

SERVICE = "/handcounter.ratelimit.v1.RateLimitService"
METHOD, SESSION = f"{SERVICE}/ShouldProcess", f"{SERVICE}/ShouldProcessSession"
OK, EXHAUSTED = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED
MOST_CALLS = 3
"""gRPC's own bound, which counts a call until its answer has been sent."""


class Servicer(rate_limit_pb2_grpc.RateLimitServiceServicer):
    """Answers everything at once."""

    def __init__(self) -> None:
        self.answered = 0
        self.calls: list[asyncio.Task[Any]] = []

    async def ShouldProcess(self, request: Any, context: Any) -> pb.ShouldProcessResponse:  # noqa: N802, ARG002
        self.answered += 1
        return pb.ShouldProcessResponse(fps=3.0)

    async def ShouldProcessSession(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802, ARG002
        task = asyncio.current_task()
        assert task is not None
        self.calls.append(task)
        while await context.read() is not grpc.aio.EOF:
            await context.write(pb.ShouldProcessSessionResponse(answers=pb.SessionAnswers(fps=[1.0])))


class Server:
    """A server that accepts a few calls."""

    def __init__(self, servicer: Servicer, port: int, channel: "grpc.aio.Channel") -> None:
        self.servicer = servicer
        self.port = port
        self.channel = channel

    async def ask(self) -> grpc.StatusCode:
        """Returns the status of a call of a client that reads."""
        call = self.channel.unary_unary(METHOD)(b"", timeout=120)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call
        return await call.code()


@pytest.fixture
async def served() -> AsyncIterator[Server]:
    """Yields such a server."""
    servicer = Servicer()
    grpc_server = grpc.aio.server(maximum_concurrent_rpcs=MOST_CALLS)
    guarded = refusing_malformed(grpc_server, lambda _method: None, 100)
    rate_limit_pb2_grpc.add_RateLimitServiceServicer_to_server(servicer, guarded)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        server = Server(servicer, port, channel)
        assert await server.ask() is OK  # grpc.aio keeps a reference to the first call that it gets
        yield server
    await grpc_server.stop(None)


async def test_answers_that_nobody_reads_end(served: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Their calls are reset after a time and make room for others; sessions and those who read are left alone."""
    unread = UnreadAnswers([METHOD])
    session = served.channel.stream_stream(SESSION)(timeout=120)
    await session.write(b"")
    await session.read()
    async with raw_client(served.port, window=0) as client:
        calls = [client.call(METHOD, b"") for _ in range(MOST_CALLS - 1)]
        await until(lambda: served.servicer.answered == 1 + len(calls), "all are answered")
        await until(lambda: all(client.got.get(call) == [HEADERS] for call in calls), "their answers are being sent")
        for _ in range(SWEEPS - 1):
            assert await served.ask() is EXHAUSTED
            unread.sweep()
        assert all(client.got[call] == [HEADERS] for call in calls)
        assert not caplog.records
        unread.sweep()
        await until(lambda: all(client.got[call][-1] == RST_STREAM for call in calls), "all are reset")
    assert await served.ask() is OK
    await session.write(b"")
    assert await session.read() is not grpc.aio.EOF
    session.cancel()
    assert [(record.message, vars(record)["calls"]) for record in caplog.records] == [
        ("ended calls whose client doesn't read the answer", MOST_CALLS - 1)
    ]


async def test_calls_that_come_and_go_arent_ended(served: Server) -> None:
    """However many sweeps there are."""
    unread = UnreadAnswers([METHOD])
    for _ in range(3 * SWEEPS):
        asked = asyncio.create_task(served.ask())
        await asyncio.sleep(0)
        unread.sweep()
        assert await asked is OK


async def test_a_session_that_is_stuck_can_be_ended(served: Server) -> None:
    """Though its handler waits for a write that can't be taken back."""
    async with raw_client(served.port, window=0) as client:
        call = client.call(SESSION, b"")
        await until(lambda: served.servicer.calls, "it is open")
        await until(lambda: client.got.get(call) == [HEADERS], "its first message is being sent")
        end_call(served.servicer.calls[0])
        assert await served.ask() is OK  # until there is another call, grpc.aio refers to the newest
        await until(lambda: client.got[call][-1] == RST_STREAM, "it is reset")


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_streams_of_answers_that_nobody_reads_end(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All alike, after a time, and their places are free again."""
    monkeypatch.setattr("sidecar.rpc.unread_answers.STALLED_S", 0.05)
    monkeypatch.setattr("sidecar.rpc.health.MAX_WATCHERS", 2)
    grpc_server = grpc.aio.server()
    guarded = refusing_malformed(grpc_server, lambda _method: None, 2)
    health = Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, guarded)
    add_debugging_services(guarded, [])
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    asks_for_services = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    request = b"" if "Health" in method else asks_for_services
    try:
        async with raw_client(port, window=0) as client, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(2):
                calls = [client.call(method, request) for _ in range(2)]
                await until(lambda: all(client.got.get(call, [])[:1] == [HEADERS] for call in calls), "they are served")  # noqa: B023
                await until(lambda: sum("cut a stream" in each.message for each in caplog.records) == 2, "they are cut")
                caplog.clear()
            good = channel.stream_stream(method)(timeout=60)
            await good.write(request)
            await good.done_writing()
            assert await good.read() is not grpc.aio.EOF
            good.cancel()
            await until(lambda: client.got[calls[0]][-1] == RST_STREAM, "the client is told")
    finally:
        await grpc_server.stop(None)
