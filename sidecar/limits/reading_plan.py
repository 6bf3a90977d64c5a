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
    READ_WATCHED = "read the awaited and all watched streams, because of a push"
    RESYNC = "read the awaited and all watched streams, because it is time"
    PING = "ping the server"


class Action(NamedTuple):
    """A step, and how long it may take."""

    step: Step
    until: float = math.nan
    """Real time at which WAIT and COALESCE end; not a number for the others."""


class ReadingPlan:
    """The plan for one connection. It begins with a resync.

    All times are real time, seconds by a monotonic clock. The owner reports what happens and then asks for the next action:
    ``begin_reading`` and ``end_reading`` around each reading of the watched streams, ``record_answer`` after everything else
    that was answered.

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
        self._outdated_since: float | None = None
        """When the first push came that no reading covers; None if there is none."""
        self._began_at = -math.inf
        self._reading = False
        self._rested_at = now
        self._answered_at = now
        self._awaited: dict[str, None] = {}

    def record_push(self, now: float) -> None:
        """Records that the hash changed."""
        if self._outdated_since is None:
            self._outdated_since = now

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
        self._outdated_since = None
        self._began_at = now
        self._reading = True

    def end_reading(self, now: float) -> None:
        """Records that the reading ended."""
        self._reading = False
        # Coalescing comes after the rest and counts as a part of it.
        self._rested_at = max(now, now + BUSY_FACTOR * (now - self._began_at) - COALESCE_S)
        self._answered_at = now
        if self._outdated_since is None:
            self.agreed_at = now if self._pushed else self._began_at

    def record_answer(self, now: float) -> None:
        """Records that a ping or a reading of awaited streams was answered."""
        self._answered_at = now
        # Redis sends pushes and answers in their order, so no change came before this answer.
        if self._pushed and self._outdated_since is None and not self._reading:
            self.agreed_at = now

    def next(self, now: float) -> Action:
        """Returns what to do now."""
        resync_at = self._began_at + self._period_s
        reads_at = math.inf
        if self._outdated_since is not None:
            reads_at = max(self._outdated_since, self._rested_at) + COALESCE_S
            if now >= reads_at:
                return Action(Step.READ_WATCHED)
        elif now >= resync_at:
            return Action(Step.RESYNC)
        if self._awaited:
            return Action(Step.READ_AWAITED)
        if self._outdated_since is not None:
            resting = now < self._rested_at
            return Action(Step.WAIT, self._rested_at) if resting else Action(Step.COALESCE, reads_at)
        ping_at = self._answered_at + HEARTBEAT_S
        if now >= ping_at:
            return Action(Step.PING)
        return Action(Step.WAIT, min(ping_at, resync_at))
