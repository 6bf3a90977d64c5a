"""Runs the worker's commands and scripts in Redis, and says when Redis can't be used.

Whatever Redis does, a command raises a :class:`QueueError` and nothing else. An outage is logged once when it begins
and once when it is over, however many commands fail in between.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import redis
from redis.exceptions import NoScriptError

from process.backoff import Backoff
from worker.queue.exchange import Request, exchange
from worker.queue.keys import CONSUMER_GROUP, Keys
from worker.queue.outages import FORGOTTEN_AFTER_S, Outages, QueueError, QueueRejectedError, QueueUnreachableError

__all__ = [
    "FORGOTTEN_AFTER_S",
    "Commands",
    "QueueError",
    "QueueRejectedError",
    "QueueUnreachableError",
    "Step",
    "retry_delays",
    "run_all",
]

logger = logging.getLogger(__name__)

SCRIPTS = Path(__file__).parent / "lua"

T = TypeVar("T")


def retry_delays() -> Backoff:
    """Returns the delays between attempts at a command while Redis can't be used."""
    return Backoff(first_s=0.05, longest_s=1.0)


class Step(NamedTuple, Generic[T]):
    """A script with what it gets, and what its reply means."""

    script: str
    """The name of a file in worker/queue/lua, without its ending."""
    keys: Sequence[str | bytes]
    words: Sequence[object]
    result: Callable[[Any], T]


class Commands:
    """The commands of one worker about one queue, for all of its threads."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        now: Callable[[], float] = time.monotonic,
        *,
        place: str = "",
        outages: Outages | None = None,
    ) -> None:
        """Connects a queue with its server.

        Args:
            client: made by :func:`redis_client.connect`, so that it sends each command at most once.
            keys: of the queue.
            now: a clock.
            place: the number of the partition, if there are several.
            outages: notes problems, for all partitions of a worker; None: its own.
        """
        self.keys = keys
        self.client = client
        self.place = place
        self._now = now
        self._outages = outages or Outages(now)
        self._scripts = {path.stem: client.register_script(path.read_text()) for path in SCRIPTS.glob("*.lua")}

    @property
    def problem(self) -> str:
        """The error because of which Redis can't be used; empty if it works."""
        return self._outages.problem

    @property
    def failing(self) -> bool:
        """Whether these commands can't be used."""
        return self.place in self._outages.places

    def script(self, name: str, keys: Sequence[str | bytes], *args: object) -> Any:
        """Runs worker/queue/lua/<name>.lua and returns its reply. Raises QueueError."""
        script: Callable[..., Any] = self._scripts[name]
        return self.call(name, lambda _client: script(keys, args))

    def run(self, step: Step[T]) -> T:
        """Runs a step and returns its result. Raises QueueError."""
        return step.result(self.script(step.script, step.keys, *step.words))

    def request(self, step: Step[Any]) -> Request:
        """Returns the command that runs a step, if the server knows the script already."""
        return Request(
            self.client, ("EVALSHA", self._scripts[step.script].sha, len(step.keys), *step.keys, *step.words)
        )

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
                reply = command(self.client)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._create_group()
                reply = command(self.client)
        except redis.RedisError as error:
            raise self.failed(name, error, began) from error
        self.succeeded(name)
        return reply

    def failed(self, name: str, error: redis.RedisError, began: float) -> QueueError:
        """Notes that a command which began at this time of the clock has failed; returns the error to raise."""
        return self._outages.failed(self.place, name, error, began)

    def succeeded(self, name: str) -> None:
        """Notes that a command has succeeded."""
        self._outages.succeeded(self.place, name)

    def now(self) -> float:
        """Returns the time by the clock."""
        return self._now()

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()

    def _create_group(self) -> None:
        if self._scripts["create_group"]([self.keys.frames, self.keys.unread], [CONSUMER_GROUP]):
            logger.info("created the consumer group", extra={"group": CONSUMER_GROUP, "queue": self.keys.frames})


def run_all(steps: Sequence[tuple[Commands, Step[T]]]) -> list[T | QueueError]:
    """Runs a step of each of several queues, in one round trip to each server; returns their results or errors."""
    if not steps:
        return []
    began = steps[0][0].now()
    replies = exchange([commands.request(step) for commands, step in steps])
    outcomes: list[T | QueueError] = []
    for (commands, step), reply in zip(steps, replies, strict=True):
        outcome = _outcome(commands, step, reply, began)
        outcomes.append(outcome)
    return outcomes


def _outcome(commands: Commands, step: Step[T], reply: Any, began: float) -> T | QueueError:
    if not isinstance(reply, redis.RedisError):
        commands.succeeded(step.script)
        return step.result(reply)
    if isinstance(reply, NoScriptError) or str(reply).startswith("NOGROUP"):  # nothing was executed
        try:
            return commands.run(step)
        except QueueError as error:
            return error
    return commands.failed(step.script, reply, began)
