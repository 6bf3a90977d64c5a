"""Repeating a step until Redis works, for a thread that may be stopped meanwhile."""

import threading
from collections.abc import Callable
from typing import TypeVar

from worker.queue.commands import QueueError, retry_delays

T = TypeVar("T")


class StoppedError(Exception):
    """The worker is stopping; what is held stays held."""


def until_redis_works(step: Callable[[], T], stop: threading.Event, alive: Callable[[], None] = lambda: None) -> T:
    """Repeats a step until it raises no QueueError; returns what it returns.

    Args:
        step: may be executed more than once.
        stop: ends the wait.
        alive: called before each attempt but the first.

    Raises:
        StoppedError: the worker is to stop before that.
    """
    try:
        return step()
    except QueueError:
        delays = retry_delays()
    while True:
        alive()
        if stop.wait(delays.next()):
            raise StoppedError
        try:
            return step()
        except QueueError:
            continue
