"""When the follower reads what, over one connection. Pure: no I/O, and real time is an argument.

Redis pushes that the hash changed, not what changed. So a push makes the table *outdated*, and all watched streams are read
again. These are the rules, in the order in which they are applied:

1. Changes are coalesced: a reading begins COALESCE_S after the first push that it covers, not before.
2. Readings leave time for decisions: after a reading that took d seconds, the next one begins BUSY_FACTOR * d later at the
   earliest.
3. A push during a reading leads to another reading, because the first one may have passed over the change.
4. A *resync* reads all watched streams without a push. It covers what a push can't tell (SWAPDB); where Redis doesn't push,
   it is all there is, and its period is that of polling.
5. A stream's first frame waits for its value (the stream is *awaited*). Awaited streams are read at once, and between the
   parts of a longer reading; the owner takes them by :meth:`ReadingPlan.take_awaited`.
6. If nothing was answered for HEARTBEAT_S, a ping finds out whether the server hangs.
7. Patterns and boosts lie in *small hashes*, which are read whole. A push about them leads to a reading of them alone, by rules
   1 to 3; a resync reads them before the streams.
"""

import enum
import math
from collections.abc import Iterable
from typing import Final, NamedTuple

COALESCE_S: Final = 0.002
"""Changes within this time lead to one reading. 20 ms put the p99 at 24 ms at 200 changes a second, 5 ms at 9.7."""

BUSY_FACTOR: Final = 0.5
"""The pause before the next reading is at least this many times as long as the last one took, so that changes without end
leave a third of the time to decisions however many streams are watched. A change waits for two readings and the pause
between them at worst: 4.0 put the p99 with a thousand streams and 200 changes a second at 16 to 32 ms."""

HEARTBEAT_S: Final = 1.0


class Step(enum.Enum):
    """What to do next."""

    WAIT = "wait until a push, an awaited stream or the time of the action"
    COALESCE = "wait until the time of the action, whatever happens"
    READ_AWAITED = "read the awaited streams"
    READ_SMALL = "read the small hashes, because of a push"
    READ_WATCHED = "read the awaited and all watched streams, because of a push"
    RESYNC = "read the small hashes, the awaited and all watched streams, because it is time"
    PING = "ping the server"


class Action(NamedTuple):
    """A step, and how long it may take."""

    step: Step
    until: float = math.nan
    """Real time at which WAIT and COALESCE end; not a number for the others."""


class _Readings:
    """The pushes about one thing, and its readings.

    Args:
        now: Real time, seconds.
    """

    def __init__(self, now: float) -> None:
        self.outdated_since: float | None = None
        """When the first push came that no reading covers; None if there is none."""
        self.running = False
        self.began_at = -math.inf
        self.rested_at = now

    def record_push(self, now: float) -> None:
        if self.outdated_since is None:
            self.outdated_since = now

    def begin(self, now: float) -> None:
        self.outdated_since = None
        self.began_at = now
        self.running = True

    def end(self, now: float) -> None:
        self.running = False
        # Coalescing comes after the rest and counts as a part of it.
        self.rested_at = max(now, now + BUSY_FACTOR * (now - self.began_at) - COALESCE_S)

    @property
    def begins_at(self) -> float:
        """When the next reading begins because of a push; infinity without one."""
        return math.inf if self.outdated_since is None else max(self.outdated_since, self.rested_at) + COALESCE_S


class ReadingPlan:
    """The plan for one connection. It begins with a resync.

    All times are real time, seconds by a monotonic clock. The owner reports what happens and then asks for the next action:
    ``begin_reading`` and ``end_reading`` around each reading of the watched streams, ``begin_small_reading`` and
    ``end_small_reading`` around each of the small hashes, ``record_answer`` after everything else that was answered.

    Args:
        now: When the connection was made.
        period_s: The time between two resyncs, seconds.
        pushed: Whether Redis pushes changes, so that the table is known to be current while there is no push.
    """

    def __init__(self, now: float, *, period_s: float, pushed: bool) -> None:
        self.agreed_at = -math.inf
        """When the table was last known to agree with Redis."""
        self._period_s = period_s
        self._pushed = pushed
        self._streams = _Readings(now)
        self._small = _Readings(now)
        self._answered_at = now
        self._awaited: dict[str, None] = {}

    def record_push(self, now: float) -> None:
        """Records that the hash changed."""
        self._streams.record_push(now)

    def record_small_push(self, now: float) -> None:
        """Records that one of the small hashes changed."""
        self._small.record_push(now)

    def await_streams(self, stream_names: Iterable[str]) -> None:
        """Adds streams whose first frames wait for their values."""
        self._awaited.update(dict.fromkeys(stream_names))

    def take_awaited(self) -> list[str]:
        """Returns the awaited streams, each once, and forgets them: the caller reads them now."""
        awaited = list(self._awaited)
        self._awaited.clear()
        return awaited

    def begin_reading(self, now: float) -> None:
        """Records that a reading of the watched streams begins: it covers every push until now."""
        self._streams.begin(now)

    def end_reading(self, now: float) -> None:
        """Records that the reading ended."""
        self._streams.end(now)
        self._answered_at = now
        if self._agrees:
            self.agreed_at = now if self._pushed else self._streams.began_at

    def begin_small_reading(self, now: float) -> None:
        """Records that a reading of the small hashes begins: it covers every push about them until now."""
        self._small.begin(now)

    def end_small_reading(self, now: float) -> None:
        """Records that the reading of the small hashes ended."""
        self._small.end(now)
        self.record_answer(now)

    def record_answer(self, now: float) -> None:
        """Records that a ping or a reading of awaited streams was answered."""
        self._answered_at = now
        # Redis sends pushes and answers in their order, so no change came before this answer.
        if self._pushed and self._agrees and not (self._streams.running or self._small.running):
            self.agreed_at = now

    def next(self, now: float) -> Action:
        """Returns what to do now."""
        if self._streams.began_at == -math.inf:
            return Action(Step.RESYNC)
        resync_at = self._streams.began_at + self._period_s
        if now >= self._small.begins_at:
            return Action(Step.READ_SMALL)
        if now >= self._streams.begins_at:
            return Action(Step.READ_WATCHED)
        if self._streams.outdated_since is None and now >= resync_at:
            return Action(Step.RESYNC)
        if self._awaited:
            return Action(Step.READ_AWAITED)
        outdated = [readings for readings in (self._small, self._streams) if readings.outdated_since is not None]
        if outdated:
            first = min(outdated, key=lambda readings: readings.begins_at)
            resting = now < first.rested_at
            return Action(Step.WAIT, first.rested_at) if resting else Action(Step.COALESCE, first.begins_at)
        ping_at = self._answered_at + HEARTBEAT_S
        if now >= ping_at:
            return Action(Step.PING)
        return Action(Step.WAIT, min(ping_at, resync_at))

    @property
    def _agrees(self) -> bool:
        return self._streams.outdated_since is None and self._small.outdated_since is None
