"""How long to wait between attempts. Pure: it neither waits nor reads a clock."""

import random
from typing import Final

FIRST_S: Final = 0.2
LONGEST_S: Final = 5.0

HALF: Final = 0.5
FULL: Final = 1.0


class Backoff:
    """Growing, jittered delays between attempts: each is twice the one before, up to a limit, until one succeeds.

    The jitter keeps clients that lost the same server at the same moment from returning to it at the same moment.

        backoff = Backoff(0.05, 1.0)
        while not connect():
            sleep(backoff.next())
        backoff.reset()

    Args:
        first_s: The first delay, seconds, before jitter.
        longest_s: The limit of a delay, seconds, before jitter.
        jitter: The part of each delay that is random: ``HALF`` leaves 0.5 to 1 times the delay, ``FULL`` 0 to 1 times.
        rng: The source of randomness; one of its own if None.

    Raises:
        ValueError: The delays don't satisfy 0 < first_s <= longest_s, or the jitter isn't in [0, 1].
    """

    def __init__(
        self,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        *,
        jitter: float = HALF,
        rng: random.Random | None = None,
    ) -> None:
        if not 0.0 < first_s <= longest_s:
            raise ValueError(f"0 < first_s <= longest_s doesn't hold for {first_s} and {longest_s}")
        if not 0.0 <= jitter <= 1.0:
            raise ValueError(f"the jitter must be in [0, 1], got {jitter}")
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._rng = rng or random.Random()
        self._next_s = first_s
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many delays were taken since the last success, or the start."""
        return self._failures

    def next(self) -> float:
        """Returns the delay before the next attempt, seconds."""
        delay_s = self._next_s
        self._next_s = min(2.0 * delay_s, self._longest_s)
        self._failures += 1
        return delay_s * self._rng.uniform(1.0 - self._jitter, 1.0)

    def reset(self) -> None:
        """Starts over with the first delay, because an attempt succeeded."""
        self._next_s = self._first_s
        self._failures = 0
