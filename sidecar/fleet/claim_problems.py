"""Why Redis rejects claims: counted, kept for people, and warned of once.

A server that can be read but rejects writes (no memory, no disk, a missing permission) answers pings in time, so it counts
as reachable; and yet each replica decides alone, at its share of the fps.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from process.redis_url import Address
from sidecar.connections.errors import RejectedError

logger = logging.getLogger(__name__)

WARN_EVERY_S: Final = 60.0
"""A server that accepts and rejects by turns, as one at the edge of its memory does, is warned of no more often."""

KNOWN_CODES: Final = ("MISCONF", "OOM", "NOPERM", "NOAUTH", "READONLY", "LOADING", "BUSY", "CLUSTERDOWN", "WRONGTYPE")
OTHER_CODE: Final = "OTHER"


class ClaimProblems:
    """What the servers say about claims.

    Args:
        on_change: Is called with the sentence whenever it changes.
        clock: Real time, seconds by a monotonic clock.
    """

    def __init__(
        self,
        on_change: Callable[[str], None] = lambda _sentence: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rejected = Counter(dict.fromkeys((*KNOWN_CODES, OTHER_CODE), 0))
        """Rejected claims by the first word of the error."""
        self.sentence = ""
        """What is wrong and what to do about it, in one line; empty if nothing is."""
        self._on_change = on_change
        self._clock = clock
        self._problems: dict[Address, RejectedError] = {}
        self._warned_at: dict[tuple[Address, str], float] = {}

    def record_rejection(self, address: Address, error: RejectedError, claims: int) -> None:
        """Records that a server rejected so many claims."""
        self.rejected[error.code if error.code in KNOWN_CODES else OTHER_CODE] += claims
        self._problems[address] = error
        key, now = (address, error.code), self._clock()
        if now - self._warned_at.get(key, -WARN_EVERY_S) >= WARN_EVERY_S:
            self._warned_at[key] = now
            fields = {"address": str(address), "summary": error.summary, **error.fields()}
            logger.warning("Redis rejects claims, deciding without it at this replica's share", extra=fields)
        self._tell()

    def record_acceptance(self, address: Address) -> None:
        """Records that a server accepted claims."""
        if self._problems and self._problems.pop(address, None) is not None:
            self._tell()

    def _tell(self) -> None:
        error = next(iter(self._problems.values()), None)
        sentence = "" if error is None else f"claims are rejected: {error.sentence}"
        if sentence != self.sentence:
            self.sentence = sentence
            self._on_change(sentence)
