"""Runs the worker's commands and scripts in Redis, and says when Redis can't be used.

Whatever Redis does, a command raises a :class:`QueueError` and nothing else. An outage is logged once when it begins
and once when it is over, however many commands fail in between.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import redis

from process.backoff import Backoff
from worker.queue.failures import failure_in_words, is_rejection
from worker.queue.keys import CONSUMER_GROUP, Keys

logger = logging.getLogger(__name__)

SCRIPTS = Path(__file__).parent / "lua"

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


def retry_delays() -> Backoff:
    """Returns the delays between attempts at a command while Redis can't be used."""
    return Backoff(first_s=0.05, longest_s=1.0)


class _Problem(NamedTuple):
    error: str
    at: float
    """When it was seen last."""


class Commands:
    """The commands of one worker about one queue, for all of its threads."""

    def __init__(self, client: redis.Redis, keys: Keys, now: Callable[[], float] = time.monotonic) -> None:
        """Takes a client made by :func:`redis_client.connect`, which sends each command at most once; and a clock."""
        self.keys = keys
        self._now = now
        self._redis = client
        self._scripts: dict[str, Callable[..., Any]] = {
            path.stem: client.register_script(path.read_text()) for path in SCRIPTS.glob("*.lua")
        }
        self._lock = threading.Lock()
        self._failing_since = 0.0
        self._working_since = 0.0
        self._problems: dict[str, _Problem] = {}

    @property
    def problem(self) -> str:
        """The error because of which Redis can't be used; empty if it works."""
        return next((problem.error for problem in self._problems.copy().values()), "")

    def script(self, name: str, keys: Sequence[str | bytes], *args: object) -> Any:
        """Runs worker/queue/lua/<name>.lua and returns its reply. Raises QueueError."""
        return self.call(name, lambda _client: self._scripts[name](keys, args))

    def call(self, name: str, command: Callable[[redis.Redis], Any]) -> Any:
        """Runs a command and returns its reply. Raises QueueError.

        A missing consumer group is created, at the first start and after a FLUSHALL, and the command is run again.

        Args:
            name: the name of the command for logs and errors.
            command: sends the command by the client that it gets.
        """
        began = self._now()
        try:
            try:
                reply = command(self._redis)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._create_group()
                reply = command(self._redis)
        except redis.RedisError as error:
            raise self._failed(name, error, began) from error
        if self._problems:
            self._succeeded(name)
        return reply

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def _create_group(self) -> None:
        if self._scripts["create_group"]([self.keys.frames, self.keys.unread], [CONSUMER_GROUP]):
            logger.info("created the consumer group", extra={"group": CONSUMER_GROUP, "queue": self.keys.frames})

    def _failed(self, name: str, error: redis.RedisError, began: float) -> QueueError:
        """Notes an error.

        A rejection is over when the same command succeeds, or when others do and it isn't repeated any more; anything
        else is over when any command succeeds.

        A command that another thread began before the outage was over belongs to that outage, and is only repeated.
        """
        problem = f"{type(error).__name__}: {error}"
        rejected = is_rejection(error)
        failure = QueueRejectedError(problem) if rejected else QueueUnreachableError(problem)
        with self._lock:
            if began < self._working_since:
                return failure
            if not self._problems:
                self._failing_since = self._now()
                what, about = failure_in_words(error)
                logger.warning("%s; retrying, nothing is lost", what, extra={"command": name, **about})
            self._problems[name if rejected else _UNREACHABLE] = _Problem(problem, self._now())
        return failure

    def _succeeded(self, name: str) -> None:
        with self._lock:
            forgotten = self._now() - FORGOTTEN_AFTER_S
            over = [
                each
                for each, problem in self._problems.items()
                if each in (_UNREACHABLE, name) or problem.at < forgotten
            ]
            for each in over:
                del self._problems[each]
            if over and not self._problems:
                self._working_since = self._now()
                seconds = round(self._working_since - self._failing_since, 1)
                logger.info("Redis works again", extra={"outage_seconds": seconds})
