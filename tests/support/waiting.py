"""Waiting for a condition: for threads and processes, and for coroutines.

No test sleeps for as long as something "should" take. It waits for what it needs, up to a deadline that only a hang reaches.
"""

import asyncio
import time
from collections.abc import Callable, Iterator

DEADLINE_S = 120.0
"""Far above what a loaded machine needs."""
LONGEST_PAUSE_S = 0.2


def wait_until(
    condition: Callable[[], object], what: str = "", deadline_s: float = DEADLINE_S, every_s: float | None = None
) -> None:
    """Returns when the condition holds.

    Args:
        condition: called again and again. An exception that it raises ends the wait.
        what: the condition in words, for the error.
        deadline_s: seconds until the wait fails.
        every_s: seconds between two calls. By default they grow with the time waited: a long wait for a process
            shouldn't take the CPU from it.

    Raises:
        AssertionError: the deadline has passed.
    """
    for pause_s in _pauses(condition, what, deadline_s):
        time.sleep(pause_s if every_s is None else every_s)


async def until(condition: Callable[[], object], what: str = "", deadline_s: float = DEADLINE_S) -> None:
    """Returns when the condition holds, as :func:`wait_until` does, while other coroutines run.

    Raises:
        AssertionError: the deadline has passed.
    """
    for pause_s in _pauses(condition, what, deadline_s):
        await asyncio.sleep(pause_s)


def _pauses(condition: Callable[[], object], what: str, deadline_s: float) -> Iterator[float]:
    """Yields how long to pause, seconds, each time that the condition doesn't hold."""
    began = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - began
        if waited_s > deadline_s:
            raise AssertionError(f"not within {deadline_s:g} s: {what or 'what the caller waits for'}")
        yield min(max(0.002, waited_s / 4), LONGEST_PAUSE_S)
