"""A server that speaks Redis' protocol and answers as a test tells it, also with nothing, or by hanging up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from support.waiting import until

Answer = Callable[[list[bytes]], bytes | None]
"""The answer to a command; None: none ever comes."""

HANGS_UP = b"\0"
"""An answer that ends so is the last one."""

OK = b"+OK\r\n"
RESP3 = b"%1\r\n$5\r\nproto\r\n:3\r\n"
"""The answer to HELLO."""


class ScriptedRedis:
    """A running server. Its answer may be set anew at any time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.port = 0
        self.connections = 0
        """So many were made."""
        self.open = 0
        """So many are there."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speaks with one client."""
        self.connections += 1
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                answer = self.answer(await _command(reader)) or b""
                writer.write(answer.removesuffix(HANGS_UP))
                if answer.endswith(HANGS_UP):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


@contextlib.asynccontextmanager
async def scripted_redis(answer: Answer) -> AsyncIterator[ScriptedRedis]:
    """Serves on a port until the block ends and the clients are gone."""
    script = ScriptedRedis(answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        script.port = server.sockets[0].getsockname()[1]
        yield script
        await until(lambda: not script.open, "the clients hang up")
