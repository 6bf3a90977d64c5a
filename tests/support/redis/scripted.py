"""A server that speaks the Redis protocol and answers as a test says: also not at all, or by closing the connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from support.waiting import until

Answer = Callable[[list[bytes]], bytes | None]
"""The answer to a command; None: no answer."""

HANGS_UP = b"\0"
"""An answer with this ending is the last one before the connection is closed."""

OK = b"+OK\r\n"
RESP3 = b"%1\r\n$5\r\nproto\r\n:3\r\n"
"""The answer to HELLO."""


class ScriptedRedis:
    """A running server. Its answer may be replaced at any time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.port = 0
        self.connections = 0
        """How many connections were made."""
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._writers)

    def push(self, data: bytes) -> None:
        """Sends something that no command asked for, to all clients."""
        for writer in self._writers:
            writer.write(data)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client."""
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command = await _command(reader)  # before the answer is looked up, which may be replaced meanwhile
                answer = self.answer(command) or b""
                writer.write(answer.removesuffix(HANGS_UP))
                if answer.endswith(HANGS_UP):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self._writers.discard(writer)


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


@contextlib.asynccontextmanager
async def scripted_redis(answer: Answer) -> AsyncIterator[ScriptedRedis]:
    """Serves on a port until the block ends and all clients have disconnected."""
    script = ScriptedRedis(answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        script.port = server.sockets[0].getsockname()[1]
        yield script
        await until(lambda: not script.open, "the clients hang up")
