"""How long to wait before trying again. Pure."""

import random


class Backoff:
    """Doubling waits with jitter, so that a hundred publishers don't return in step to what has just come back."""

    def __init__(self, first: float = 0.2, most: float = 5.0, rng: random.Random | None = None) -> None:
        self._first = first
        self._most = most
        self._rng = rng or random.Random()
        self._next = first

    def next(self) -> float:
        """Gives the next wait, seconds: half to all of the doubled one before, capped."""
        wait = self._next * self._rng.uniform(0.5, 1.0)
        self._next = min(2 * self._next, self._most)
        return wait

    def reset(self) -> None:
        """Begins with the shortest wait again, since it worked."""
        self._next = self._first
