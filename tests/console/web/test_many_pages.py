"""As many pages as the console serves at a time, some of which don't read."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console.cameras import simulated_hashes
from support.console.events import Events
from support.console.processes import ConsoleProcess, console_process
from support.redis.valkey import valkey
from support.waiting import wait_until

CAMERAS = 100
PAGES = 200
IDLE = 50
"""Of the pages, those that read nothing."""

pytestmark = pytest.mark.slow


def _megabytes(console: ConsoleProcess) -> float:
    with Path(f"/proc/{console.process.pid}/status").open() as status:
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmRSS"))


@contextlib.contextmanager
def _idle_pages(console: ConsoleProcess, number: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            page = stack.enter_context(socket.socket())
            page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            page.connect(("127.0.0.1", console.port))
            page.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{console.port}\r\n\r\n".encode())
        yield


def test_what_pages_do_not_read_is_bounded():
    with (
        valkey() as server,
        server.client() as client,
        simulated_hashes(client, CAMERAS, every_s=0.5),
        console_process("--max-viewers", str(PAGES), redis_url=server.url) as console,
    ):
        with contextlib.closing(Events(console)) as first:
            first.until(lambda: len(first.rows) == CAMERAS)
        with _idle_pages(console, IDLE), contextlib.ExitStack() as stack:
            before = _megabytes(console)
            pages = [stack.enter_context(contextlib.closing(Events(console))) for _ in range(PAGES - IDLE)]
            for _ in range(2):
                for page in pages:
                    page.next()
            assert console.get("/api/events")[0] == 503, "there is no room for another"
            assert all(len(page.rows) == CAMERAS for page in pages)
            assert _megabytes(console) - before < 60.0

        def has_room() -> bool:
            with contextlib.closing(Events(console)) as page:
                return page.status == 200

        wait_until(has_room, "the pages that were closed make room", every_s=0.2)


def test_the_kernel_ends_connections_that_nobody_reads():
    """Within half a minute, so that frozen pages don't keep others out."""
    from console.web.running import UNREAD_MS, _listen

    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_MS <= 60_000
