"""A TCP proxy in front of Redis that can be slowed down, so that tests need no slow network.

with redis_proxy(server.port) as proxy:
    proxy.delay_s = 0.2
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class RedisProxy:
    """Forwards bytes, those from the server after a delay. Runs in its own thread."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        """The delay of each answer, seconds; may change at any time, also for answers in transit."""
        self.port = 0
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(60)

    @property
    def url(self) -> str:
        """Returns the value for --redis-url."""
        return f"redis://127.0.0.1:{self.port}/0"

    def move_to(self, port: int) -> None:
        """Leads new connections to another port; those that exist stay where they are."""
        self._target = port

    def close(self) -> None:
        """Drops all connections."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        # Everything runs in this thread, because the test's own may be running a loop.
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(asyncio.sleep(0))  # lets the transports end
        self._loop.close()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:

            async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
                except OSError:
                    writer.close()  # as a lost server would
                else:
                    tasks.create_task(self._pass_on(reader, server_writer, delayed=False))
                    tasks.create_task(self._pass_on(server_reader, writer, delayed=True))

            server = await asyncio.start_server(accepted, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()
            await self._stopped.wait()
            server.close()
            me = asyncio.current_task()
            for task in asyncio.all_tasks():
                if task is not me:
                    task.cancel()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delayed: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        clock = asyncio.get_running_loop().time

        async def write() -> None:
            while True:
                came, data = await queue.get()
                while delayed and (early := came + self.delay_s - clock()) > 0:  # noqa: ASYNC110 (it may change meanwhile)
                    await asyncio.sleep(min(early, 0.01))
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(write())
                data = b"."
                while data:
                    data = await reader.read(1 << 16)
                    queue.put_nowait((clock(), data))
        except* OSError:
            pass
        finally:
            writer.close()


@contextlib.contextmanager
def redis_proxy(port: int) -> Iterator[RedisProxy]:
    """Runs a proxy to a port of this machine while the block runs."""
    proxy = RedisProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
