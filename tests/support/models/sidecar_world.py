"""A limiter without Redis and without a real clock, for the tests of the sidecar's packages."""

from collections.abc import Awaitable, Callable, Collection, Sequence

from support.coroutines import run

from handcounter.pacing.limits import Limit
from handcounter.pacing.schedule import Pacing, Reason
from sidecar.deciding.decider import Answers, Batch, Decider
from sidecar.deciding.lease_book import LeaseBook
from sidecar.deciding.limiter import Limiter
from sidecar.deciding.pod import PodDecider
from sidecar.deciding.preview import Preview
from sidecar.deciding.roster import Roster
from sidecar.deciding.shadow import ShadowDecider
from sidecar.limits.table import FpsTable
from sidecar.limits.watchers import Watchers


class World:
    """A limiter over a table whose Redis is a dict, with a clock that only the test advances."""

    def __init__(
        self, default: float = 1.0, max_streams: int = 1000, pacing: Pacing = Pacing.GCRA, *, shadow: bool = False
    ) -> None:
        self.now = 1000.0
        self.redis: dict[str, bytes] = {}
        self.unreachable = False
        """Whether Redis can't be read."""
        self.reads: list[list[str]] = []
        """The streams of each read."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """Called between Redis' answer and the end of the wait for it."""
        self.leases = LeaseBook()
        self.watchers = Watchers()
        self.table = FpsTable(
            default,
            lambda _field, _value: None,
            self.leases,
            on_difference=self.watchers.record,
            clock=lambda: self.now,
            wall_clock=lambda: 0.0,
        )
        self.roster = Roster(self.table, self.leases, max_streams=max_streams, watchers=self.watchers)
        self.table.store_wildcard(None)
        self.decider: Decider = PodDecider(self.roster, self.table, self.leases, pacing)
        self.limiter = self._limiter(self.decider)
        self._pacing = pacing
        self.preview = self._preview(shadow=False)
        if shadow:
            self.enter_shadow_mode()

    def enter_shadow_mode(self) -> None:
        """Makes the limiter one of shadow mode."""
        self.limiter = self._limiter(ShadowDecider(self.decider), shadow=True)
        self.preview = self._preview(shadow=True)

    def _preview(self, *, shadow: bool) -> Preview:
        return Preview(
            self.table,
            self.roster,
            self.decider,
            self.read_limits,
            pacing=self._pacing,
            shadow=shadow,
            clock=lambda: self.now,
        )

    def _limiter(self, decider: Decider, *, shadow: bool = False) -> Limiter:
        return Limiter(self.table, self.roster, decider, self.read_limits, lambda: self.now, shadow=shadow)

    async def read_limits(self, stream_names: Collection[str]) -> None:
        """Has the effect of reading these streams' limits."""
        self.reads.append(list(stream_names))
        if not self.unreachable:
            self.table.store(stream_names, [self.redis.get(name) for name in stream_names])
        if self.meanwhile is not None:
            await self.meanwhile()
        self.table.assume(stream_names)

    def set(self, stream_name: str, fps: str) -> None:
        """Has the effect of HSET and its push."""
        self.redis[stream_name] = fps.encode()
        self.table.store([stream_name], [fps.encode()])

    def decide(self, stream_name: str, ts: float, now: float) -> tuple[Reason, Limit, float]:
        """Decides one frame without reading its limit. Returns the reason, the limit and next_ts."""
        answers = self.decide_all([stream_name], [ts], now)
        return answers.reasons[0], self.table.limit(stream_name), answers.next_ts[0]

    def decide_all(self, stream_names: Sequence[str], tss: Sequence[float], now: float) -> Answers:
        """Decides a batch without reading limits."""
        return run(self.decider.decide(Batch(stream_names, tss), now))

    def ask(self, stream_name: str, ts: float) -> Reason:
        """Decides one frame now, as a call would that needn't wait for Redis."""
        return run(self.limiter.decide(Batch([stream_name], [ts]))).reasons[0]
