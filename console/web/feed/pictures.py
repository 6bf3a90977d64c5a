"""The last pictures of cameras, read from Redis when somebody looks at them, once for everybody.

A picture is read again only when the camera has a newer one. The reads per second and the memory are bounded; beyond the
bound a viewer gets the picture before.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from fnmatch import fnmatchcase
from typing import Final

READS_PER_S: Final = 100.0
BURST: Final = 200.0
MOST_BYTES: Final = 64 * 1024 * 1024


class Shown:
    """Whose pictures are shown."""

    def __init__(self, *, pictures: bool, hidden: Iterable[str] = ()) -> None:
        """Takes whether any are, and patterns of streams whose pictures aren't."""
        self._pictures = pictures
        self._hidden = tuple(hidden)

    def __call__(self, name: str) -> bool:
        """Returns whether the pictures of a stream are shown."""
        return self._pictures and not any(fnmatchcase(name, pattern) for pattern in self._hidden)


class Pictures:
    """The pictures that are kept, the least recently wanted ones first."""

    def __init__(self, read: Callable[[str], Awaitable[bytes | None]], clock: Callable[[], float]) -> None:
        """Takes what reads a picture, and a monotonic clock in seconds."""
        self._read = read
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0
        self._reading: dict[str, asyncio.Task[bytes | None]] = {}
        self._allowance = BURST
        self._allowed_at = clock()

    @property
    def kept_bytes(self) -> int:
        """The size of all pictures that are kept."""
        return self._bytes

    async def picture(self, name: str, version: float) -> bytes | None:
        """Returns the picture of a stream, a JPEG; None if there is none.

        Args:
            name: The stream.
            version: When its last frame was counted: a picture that was read for the same version isn't read again.
        """
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            if kept[0] >= version or not (name in self._reading or self._may_read()):
                return kept[1]
        elif name not in self._reading and not self._may_read():
            return None
        task = self._reading.get(name)
        if task is None:
            task = self._reading[name] = asyncio.ensure_future(self._read(name))
            task.add_done_callback(lambda done: self._finish(name, version, done))
        return await asyncio.shield(task)

    def _finish(self, name: str, version: float, task: "asyncio.Task[bytes | None]") -> None:
        self._reading.pop(name, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._bytes -= len(self._kept.pop(name, (0.0, b""))[1])
        picture = task.result()
        if picture:
            self._kept[name] = (version, picture)
            self._bytes += len(picture)
        while self._bytes > MOST_BYTES:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= len(dropped)

    def _may_read(self) -> bool:
        now = self._clock()
        self._allowance = min(BURST, self._allowance + (now - self._allowed_at) * READS_PER_S)
        self._allowed_at = now
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True
