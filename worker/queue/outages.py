"""Notes when Redis can't be used, and says so once: when an outage begins, and when it is over.

An outage may concern one partition of several, whose server is lost while the others work; so each error belongs to a place.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import redis

from worker.queue.failures import failure_in_words, is_rejection

logger = logging.getLogger(__name__)

_UNREACHABLE = ""
"""Under which name an outage of all commands is kept; others are kept under the name of their command."""

FORGOTTEN_AFTER_S = 3.0
"""A rejected command that matters is repeated within a second. One that isn't for longer is no longer needed: what it
concerned was done in another way, or is over. If other commands succeed meanwhile, its rejection is no problem any more."""


class QueueError(Exception):
    """A command failed. Redis may have executed it or not, so only what can be repeated may be tried again."""


class QueueUnreachableError(QueueError):
    """There is no connection to Redis, or no reply in time, or the login was rejected."""


class QueueRejectedError(QueueError):
    """Redis answered a command with an error, such as WRONGTYPE or OOM."""


class _Problem(NamedTuple):
    error: str
    at: float
    """When it was seen last."""


class Outages:
    """The problems of one worker with Redis, for all of its threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Takes a clock."""
        self._now = now
        self._lock = threading.Lock()
        self._failing_since = 0.0
        self._working_since = 0.0
        self._problems: dict[tuple[str, str], _Problem] = {}
        """By place and command."""
        self._closed = False

    def close(self) -> None:
        """Says nothing more: what fails from now on fails because the connections are closed."""
        self._closed = True

    @property
    def problem(self) -> str:
        """The error because of which Redis can't be used; empty if it works."""
        return next((problem.error for problem in self._problems.copy().values()), "")

    @property
    def places(self) -> set[str]:
        """The places where Redis can't be used."""
        return {place for place, _ in self._problems.copy()}

    def failed(self, place: str, command: str, error: redis.RedisError, began: float) -> QueueError:
        """Notes an error, and returns it as one of the queue.

        A rejection is over when the same command succeeds, or when others do and it isn't repeated any more; anything
        else is over when any command succeeds.

        A command that another thread began before the outage was over belongs to that outage, and is only repeated.
        """
        problem = f"{type(error).__name__}: {error}"
        rejected = is_rejection(error)
        failure = QueueRejectedError(problem) if rejected else QueueUnreachableError(problem)
        with self._lock:
            if began < self._working_since or self._closed:
                return failure
            if not self._problems:
                self._failing_since = self._now()
                what, about = failure_in_words(error)
                where = {"partition": place} if place else {}
                logger.warning("%s; retrying, nothing is lost", what, extra={"command": command, **where, **about})
            self._problems[place, command if rejected else _UNREACHABLE] = _Problem(problem, self._now())
        return failure

    def succeeded(self, place: str, command: str) -> None:
        """Notes that a command succeeded."""
        if not self._problems:
            return
        with self._lock:
            forgotten = self._now() - FORGOTTEN_AFTER_S
            over = [
                (where, each)
                for (where, each), problem in self._problems.items()
                if where == place and (each in (_UNREACHABLE, command) or problem.at < forgotten)
            ]
            for each in over:
                del self._problems[each]
            if over and not self._problems:
                self._working_since = self._now()
                seconds = round(self._working_since - self._failing_since, 1)
                logger.info("Redis works again", extra={"outage_seconds": seconds})
