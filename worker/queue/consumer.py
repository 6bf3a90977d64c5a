"""The queue of frames and what is written about them: everything that the worker says to Redis.

Every delivery ends in exactly one of counted, skipped or dead, and the hash of the accounting says how many did:

- Entries are delivered and counted as received by one script. If its reply is lost, they are pending for this consumer
  and are taken up again (``unsettled``, ``take``), without being counted as received anew.
- An ending is one script too: it acknowledges, and only where the entry was still pending it counts the ending and
  writes the result or the dead letter. So an ending can be repeated when its reply was lost, and of two workers that
  hold the same entry (one was thought dead) the first to end it wins.
- What a dead worker held is adopted by another, after it showed no sign of life for a while.

So received = counted + skipped + dead + pending at any time, and pending is nothing after a drain. (A Redis that loses
its memory loses the counters as well; one that is killed keeps what ``appendonly yes`` wrote.)

One :class:`Queue` serves all threads of a worker. Whatever Redis does, its methods raise :class:`QueueAwayError` alone,
which it logs once, as it does its end.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from worker.queue.delivery import Delivery, Ending
from worker.queue.frame import SkipReason
from worker.queue.keys import CONSUMER_GROUP, Keys

logger = logging.getLogger(__name__)

SCRIPTS = Path(__file__).parent / "lua"


class QueueAwayError(Exception):
    """Redis can't be reached or refuses to work; what was asked for may have been done or not."""


class Queue:
    """The consumer of the queue of one worker."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        consumer: str,
        *,
        counts_maxlen: int = 10_000,
        dead_maxlen: int = 10_000,
        on_trimmed: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """Takes a client made by :func:`redis_client.connect`, this consumer's name and the caps of what it writes.

        on_trimmed is told how many deliveries ended as dead because the queue had dropped their entries.
        """
        self.keys = keys
        self.consumer = consumer
        self._redis = client
        self._counts_maxlen = counts_maxlen
        self._dead_maxlen = dead_maxlen
        self._on_trimmed = on_trimmed
        self._scripts: dict[str, Callable[..., Any]] = {
            path.stem: client.register_script(path.read_text()) for path in SCRIPTS.glob("*.lua")
        }
        self.dropped_unread = 0
        """Entries that the queue dropped before any worker read them, as of the last read."""
        self._last_id = b"0-0"
        self._clock_offset = time.time() - time.monotonic()
        self._lock = threading.Lock()
        self._away_since = 0.0
        self._troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str:
        """What keeps Redis from working with us; empty if it does."""
        return next(iter(self._troubles.copy().values()), "")

    def now(self) -> float:
        """Unix seconds by Redis' clock, as told by its last delivery."""
        return time.monotonic() + self._clock_offset

    # New entries

    def read(self, count: int) -> list[Delivery]:
        """Takes up to this many new entries, without waiting, and counts them as received."""
        keys = [self.keys.frames, self.keys.accounting, self.keys.unread]
        reply = self._run("read", keys, CONSUMER_GROUP, self.consumer, count)
        seconds, micros, entries, self._last_id, self.dropped_unread = reply
        self._set_clock(seconds, micros)
        return [Delivery(entry_id.decode(), _pairs(words), 1) for entry_id, words in entries]

    def wait(self, seconds: float) -> None:
        """Returns as soon as an entry arrives behind those that were read, or after this many seconds."""
        frames, last_id = self.keys.frames, self._last_id
        milliseconds = max(1, int(seconds * 1000))
        self._call("wait", lambda: self._redis.xread({frames: last_id}, count=1, block=milliseconds))

    # Entries that were delivered before

    def unsettled(self, count: int = 1000) -> dict[str, int]:
        """Lists what this consumer holds by Redis' account, oldest first: id to the times it was delivered."""
        frames = self.keys.frames
        rows = self._call(
            "unsettled", lambda: self._redis.xpending_range(frames, CONSUMER_GROUP, "-", "+", count, self.consumer)
        )
        return {row["message_id"].decode(): row["times_delivered"] for row in rows}

    def take(self, entry_ids: Sequence[str]) -> list[Delivery]:
        """Takes these up again, as far as this consumer still holds them; those that the queue dropped are dead now."""
        keys = [self.keys.frames, self.keys.accounting, self.keys.dead]
        seconds, micros, entries, dropped = self._run(
            "take", keys, CONSUMER_GROUP, self.consumer, self._dead_maxlen, *entry_ids
        )
        self._on_trimmed(dropped)
        self._set_clock(seconds, micros)
        return [Delivery(entry_id.decode(), _pairs(words), times) for entry_id, words, times in entries]

    def adopt(self, idle: float) -> int:
        """Becomes the holder of everything that was held without a sign of life for so many seconds; says how many."""
        keys = [self.keys.frames, self.keys.accounting, self.keys.dead]
        cursor, adopted = b"0-0", 0
        while True:
            cursor, number, dropped = self._run(
                "adopt", keys, CONSUMER_GROUP, self.consumer, self._dead_maxlen, int(idle * 1000), cursor, 500
            )
            self._on_trimmed(dropped)
            adopted += int(number)
            if cursor == b"0-0":
                return adopted

    def keep(self, entry_ids: Sequence[str]) -> None:
        """Gives a sign of life for what this worker holds, so that no other adopts it."""
        self._run("hold", [self.keys.frames], CONSUMER_GROUP, self.consumer, 0, *entry_ids)

    def give_up(self, entry_ids: Sequence[str]) -> None:
        """Lets others adopt these at once."""
        a_day_ms = 86_400_000
        self._run("hold", [self.keys.frames], CONSUMER_GROUP, self.consumer, a_day_ms, *entry_ids)

    def pending(self) -> int:
        """The number of deliveries that any worker has not ended."""
        return int(self._call("pending", lambda: self._redis.xpending(self.keys.frames, CONSUMER_GROUP))["pending"])

    # Payloads

    def payloads(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Fetches encoded pictures; None for those that expired and for keys that hold something else."""

        def get() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.get(key)
            return pipeline.execute(raise_on_error=False)

        return [reply if isinstance(reply, bytes) else None for reply in self._call("payloads", get)]

    # Endings

    def skip(self, entry_ids: Mapping[SkipReason, Sequence[str]]) -> dict[SkipReason, int]:
        """Ends deliveries as skipped; says how many of them were still pending, by reason."""
        words: list[object] = []
        for reason, ids in entry_ids.items():
            words += [f"skipped:{reason.value}", len(ids), *ids]
        ended = self._run("skip", [self.keys.frames, self.keys.accounting], CONSUMER_GROUP, *words)
        return dict(zip(entry_ids, ended, strict=True))

    def settle(self, endings: Sequence[Ending]) -> list[bool]:
        """Ends deliveries as counted or dead; says for each whether it was still pending."""
        keys = [self.keys.frames, self.keys.accounting, self.keys.counts, self.keys.dead]
        words: list[object] = []
        for ending in endings:
            words += [ending.outcome, ending.entry_id, len(ending.words), *ending.words]
        ended = self._run("settle", keys, CONSUMER_GROUP, self._counts_maxlen, self._dead_maxlen, *words)
        return [acknowledged == 1 for acknowledged in ended]

    # Consumers

    def retire(self, idle: float) -> None:
        """Deletes the consumers that hold nothing and were silent for so many seconds: workers that are no more."""
        self._run("retire", [self.keys.frames], CONSUMER_GROUP, "", int(idle * 1000))

    def leave(self) -> None:
        """Deletes this consumer if it holds nothing."""
        self._run("retire", [self.keys.frames], CONSUMER_GROUP, self.consumer, 2**53)

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def _set_clock(self, seconds: bytes, micros: bytes) -> None:
        self._clock_offset = int(seconds) + int(micros) / 1e6 - time.monotonic()

    def _run(self, script: str, keys: Sequence[str], *args: object) -> Any:
        return self._call(script, lambda: self._scripts[script](keys, args))

    def _call(self, what: str, command: Callable[[], Any]) -> Any:
        """Runs a command, the group being made where it is missing: at the first start, and after a FLUSHALL."""
        try:
            try:
                reply = command()
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._make_group()
                reply = command()
        except redis.RedisError as error:
            raise self._away(what, error) from error
        if self._troubles:
            self._back(what)
        return reply

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(self.keys.frames, CONSUMER_GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._redis.hdel(self.keys.unread, "position")  # it was another queue's
            logger.info("made the consumer group %s of %s", CONSUMER_GROUP, self.keys.frames)

    def _away(self, what: str, error: redis.RedisError) -> QueueAwayError:
        """Notes an error: a refusal is over when the same is done, anything else as soon as Redis does anything."""
        trouble = f"{type(error).__name__}: {error}"
        refusal = isinstance(error, redis.ResponseError)
        with self._lock:
            if not self._troubles:
                self._away_since = time.monotonic()
                does = f"refuses to {what}" if refusal else "is away"
                logger.warning("Redis %s, waiting for it; nothing is lost (%s)", does, trouble)
            self._troubles[what if refusal else ""] = trouble
        return QueueAwayError(trouble)

    def _back(self, what: str) -> None:
        with self._lock:
            over = [each for each in ("", what) if self._troubles.pop(each, None)]
            if over and not self._troubles:
                logger.info("Redis is back after %.1f s", time.monotonic() - self._away_since)


def _pairs(words: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(words[::2], words[1::2], strict=True))
