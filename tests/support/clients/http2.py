"""A client of gRPC as bytes on a socket: it does what no library's client would, such as never reading an answer."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns a frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class RawClient:
    """A connection that answers pings, so that the server takes its client for alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.got: dict[int, list[int]] = {}
        """The kinds of the frames that arrived, by HTTP/2 stream, which is a call."""
        self._reader = reader
        self._writer = writer
        self._next = 1

    def call(self, path: str, request: bytes | None) -> int:
        """Begins a call; None leaves it half-sent. Returns the number of its HTTP/2 stream."""
        number, self._next = self._next, self._next + 2
        fields = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": path.encode(),
            b":authority": b"server",
            b"te": b"trailers",
            b"content-type": b"application/grpc",
        }
        block = b"".join(b"\0" + bytes([len(key)]) + key + bytes([len(value)]) + value for key, value in fields.items())
        self._writer.write(frame(HEADERS, _END_HEADERS, number, block))
        if request is not None:
            self._writer.write(frame(DATA, _END_STREAM, number, struct.pack(">BI", 0, len(request)) + request))
        return number

    async def read(self) -> None:
        """Reads frames until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3]))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
                self.got.setdefault(stream, []).append(kind)
                if kind == PING and not flags & _ACK:
                    self._writer.write(frame(PING, _ACK, 0, payload))


@contextlib.asynccontextmanager
async def raw_client(port: int, window: int = 65535) -> AsyncIterator[RawClient]:
    """Yields a client whose calls take so many bytes of their answers; 0: it reads none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, window))
    writer.write(_PREFACE + settings + frame(SETTINGS, _ACK, 0))
    client = RawClient(reader, writer)
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        writer.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
