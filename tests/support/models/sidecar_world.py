"""A limiter without Redis and without a clock, for the tests of the sidecar's rooms."""

from collections.abc import Awaitable, Callable, Collection

from handcounter.pacing.schedule import Pacing
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Limiter
from sidecar.limits.table import FpsTable


class World:
    """A limiter over a table whose Redis is a dict, with a clock that stands until it is moved."""

    def __init__(self, default: float = 1.0, max_streams: int = 1000, pacing: Pacing = Pacing.GCRA) -> None:
        self.now = 1000.0
        self.redis: dict[str, bytes] = {}
        self.learned: list[list[str]] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What happens between Redis' answer and the end of the wait for it."""
        self.leases = LeaseBook()
        self.table = FpsTable(default, lambda _field, _value: None, self.leases)
        self.limiter = Limiter(
            self.table, self.leases, self._learn, pacing=pacing, max_streams=max_streams, clock=lambda: self.now
        )

    async def _learn(self, stream_names: Collection[str]) -> None:
        self.learned.append(list(stream_names))
        self.table.store(stream_names, [self.redis.get(name) for name in stream_names])
        if self.meanwhile is not None:
            await self.meanwhile()
        self.table.assume(stream_names)

    def set(self, stream_name: str, fps: str) -> None:
        """What HSET and its push do."""
        self.redis[stream_name] = fps.encode()
        self.table.store([stream_name], [fps.encode()])
