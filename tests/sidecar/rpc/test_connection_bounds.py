"""What one client can hold of a server's connections; over plain sockets that speak just enough HTTP/2."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import grpc
import pytest

from sidecar.rpc import listen

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The preface and empty SETTINGS."""
PING = b"\0\0\x08\6\0\0\0\0\0" + b"x" * 8
GOAWAY = 7


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server with the options of ours, after the client's greeting."""
    server = grpc.aio.server(options=listen.server_options(1000))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HELLO)
    async with asyncio.timeout(60):
        yield reader, writer
    writer.close()
    await server.stop(None)


async def frame_types(reader: asyncio.StreamReader) -> AsyncIterator[int]:
    """Yields the types of the frames that the server sends, until it closes the connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3]))
            yield head[3]


async def test_a_client_that_answers_no_ping_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is frozen or was cut off: its connection ends."""
    monkeypatch.setattr(listen, "PING_S", 1)
    monkeypatch.setattr(listen, "PONG_S", 1)
    async with connected() as (reader, _):
        types = [kind async for kind in frame_types(reader)]
    assert types[-2:] == [PING[3], GOAWAY]


async def test_a_connection_without_calls_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says so and closes it."""
    monkeypatch.setattr(listen, "IDLE_S", 1)
    async with connected() as (reader, _):
        async for kind in frame_types(reader):
            if kind == GOAWAY:
                return
    pytest.fail("closed without GOAWAY")


async def test_pings_of_clients_are_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients may ping at the interval, without calls too; by default gRPC ends their connections after the third ping."""
    monkeypatch.setattr(listen, "SHORTEST_PING_S", 0)
    answers = 0
    async with connected() as (reader, writer):
        writer.write(PING)
        async for kind in frame_types(reader):
            assert kind != GOAWAY
            if kind == PING[3]:
                answers += 1
                if answers == 10:
                    return
                writer.write(PING)
    pytest.fail("closed")


def test_intervals_fit_the_usual_clients() -> None:
    """Clients in Go and Java ping every 10 s at the most."""
    options = dict(listen.server_options(1000))
    assert options["grpc.http2.min_ping_interval_without_data_ms"] < 10_000


def test_half_of_the_descriptors_stay_free() -> None:
    """However many clients connect, the process has descriptors for Redis and its files."""
    options = dict(listen.server_options(1000))
    assert options["grpc.max_allowed_incoming_connections"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
