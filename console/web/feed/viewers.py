"""The open pages: each gets every change once, or a fresh snapshot if it is too slow to read them all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

QUEUE: Final = 16
"""Changes that may wait for one viewer: seconds of them. More are replaced by one snapshot."""


class TooManyViewersError(Exception):
    """No further page can be served at present."""


class Viewers:
    """All viewers. Messages are encoded once and shared, so a viewer costs little more than its connection.

    Args:
        max_viewers: How many may be open.
        snapshot: Returns everything that was told so far, encoded.
    """

    def __init__(self, max_viewers: int, snapshot: Callable[[], bytes]) -> None:
        self._max_viewers = max_viewers
        self._snapshot = snapshot
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._behind: set[asyncio.Queue[bytes]] = set()
        self._closing = False
        self.resnapshots = 0
        """How often a slow viewer got a snapshot in place of changes."""

    @property
    def number(self) -> int:
        """How many pages are open."""
        return len(self._queues)

    @property
    def has_room(self) -> bool:
        """Whether another page may be opened."""
        return len(self._queues) < self._max_viewers

    def tell(self, message: bytes) -> None:
        """Queues a change for every viewer."""
        for queue in self._queues:
            if queue in self._behind:
                continue
            if queue.full():
                self._behind.add(queue)
                self.resnapshots += 1
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(b"")  # wakes the reader, which asks for a snapshot
            else:
                queue.put_nowait(message)

    def close(self) -> None:
        """Ends all messages, so that the server can stop."""
        self._closing = True
        for queue in self._queues:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(b"")

    async def messages(self) -> AsyncIterator[bytes]:
        """Yields a snapshot, and then every change until the page is closed.

        Raises:
            TooManyViewersError: There is no room for another viewer.
        """
        if not self.has_room:
            raise TooManyViewersError
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        self._queues.add(queue)
        try:
            yield self._snapshot()
            while not self._closing:
                message = await queue.get()
                if queue in self._behind:
                    self._behind.discard(queue)
                    yield self._snapshot()
                elif message:
                    yield message
        finally:
            self._queues.discard(queue)
            self._behind.discard(queue)
