"""The worker's view of the queue: reads entries, holds and settles deliveries, and keeps the accounting exact.

Every delivery is settled in exactly one way, as counted, skipped or dead-lettered, and the accounting counts them:

- One script delivers entries and counts them as received. If its reply is lost, the entries are pending for this
  consumer and are taken up again (``unsettled``, ``take``), without being counted as received a second time.
- One script settles: it acknowledges the entry, and only if the entry was still pending it counts it and writes the
  result or the dead letter. So settling can be repeated when a reply was lost, and of two workers that hold the same
  entry (because one was believed dead) the first to settle it wins.
- What a dead worker held is adopted by another worker after it showed no sign of life for a while.
- The pictures of settled deliveries go in the same script, as its last step, so a delivery that comes back still has its own.
- What the consumer group forgot, because somebody destroyed it or deleted a consumer, is counted as lost.

So received = counted + skipped + dead + pending at any time, and nothing is pending after a drain. (A Redis that loses
its memory loses the counters as well; one that is killed keeps what ``appendonly yes`` wrote.)

One :class:`Queue` serves all threads of a worker. Its methods raise :class:`worker.queue.commands.QueueError` alone.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from worker.queue import accounting
from worker.queue.arrivals import Arrivals, claimed_arrival
from worker.queue.commands import Commands, QueueError, Step
from worker.queue.delivery import Counted, Dead, Delivery, Settled, Skipped
from worker.queue.exchange import Request, exchange
from worker.queue.frame import DeadReason, EntryError, SkipReason, arrival_time
from worker.queue.keys import CONSUMER_GROUP
from worker.queue.partition_number import PartitionNumber
from worker.queue.partitions import Partitions
from worker.queue.payload import payload_of
from worker.queue.permissions import log_missing_permissions, missing_permissions, worker_probes
from worker.queue.redis_clock import RedisClock
from worker.queue.reply_parser import BEGINNING_ONLY
from worker.queue.stream_update import TTL_S, StreamUpdate

logger = logging.getLogger(__name__)

MOST_BYTES = 64 * 2**20
"""A bound on what is read at once, far above what usual pictures need."""

_FORGETTING = 0.5
"""How the largest entry is forgotten with each read."""

_AT_ONCE_S = 0.05
"""A wait for an entry that takes no longer may have found one that was there before."""

_PAGE = 500
"""Entries adopted by one script, so that no script blocks Redis for long."""

_ONE_DAY_MS = 86_400_000
"""Idle for longer than any --claim-idle in use."""

_FOR_EVER_MS = 2**53
"""The largest integer that Lua's numbers represent exactly."""


class Queue:
    """One consumer of the queue."""

    def __init__(
        self,
        commands: Commands,
        consumer: str,
        *,
        counts_maxlen: int = 10_000,
        dead_maxlen: int = 10_000,
        keep_payloads: bool = False,
        on_dead: Callable[[DeadReason, int], None] = lambda _reason, _number: None,
        mark: str = "",
        partitions: Partitions | None = None,
    ) -> None:
        """Makes a consumer, which connects to nothing yet.

        Args:
            commands: runs what this class sends to Redis.
            consumer: this worker's name in the consumer group.
            counts_maxlen: about how many results are kept.
            dead_maxlen: about how many dead letters are kept.
            keep_payloads: whether pictures stay until their TTL, although their frame is settled.
            on_dead: called with the number of deliveries that were dead-lettered by a script.
            partitions: the number in Redis must be theirs; None: that isn't checked here.
            mark: follows the ids of entries outside of this class, where those of several queues must differ.
        """
        self.keys = commands.keys
        self.mark = mark
        self.consumer = consumer
        self._commands = commands
        self._counts_maxlen = counts_maxlen
        self._dead_maxlen = dead_maxlen
        self._keep_payloads = keep_payloads
        self._on_dead = on_dead
        self.dropped_unread = 0
        """Entries that the queue dropped before any worker read them, as of the last read."""
        self.interrupted = False
        """Whether a read failed, so that this consumer may hold entries that it hasn't seen; set by whoever reads several."""
        self.read_until = -math.inf
        """All entries that arrived up to then were read, Unix seconds by Redis' clock."""
        self._unwritten = ""
        self._last_id = b"0-0"
        self._largest = 0
        """About the largest entry lately, bytes."""
        self._clock = RedisClock()
        self._arrivals = Arrivals()
        self._number = PartitionNumber(commands.client, partitions) if partitions else None

    @property
    def parts(self) -> "Sequence[Queue]":
        """The consumers of all partitions that this worker reads."""
        return [self]

    @property
    def commands(self) -> Commands:
        """What runs the steps."""
        return self._commands

    @property
    def problem(self) -> str:
        """The error because of which Redis can't be used; empty if it works."""
        return self._commands.problem

    def now(self) -> float:
        """Returns Unix seconds by Redis' clock, as of its last delivery."""
        return self._clock.now()

    # New entries

    def read(self, count: int, most_bytes: int = MOST_BYTES) -> list[Delivery]:
        """Takes new entries, without waiting, and counts them as received.

        Args:
            count: the most entries.
            most_bytes: the most bytes of names and values in the entries. The last one may exceed it: if there are any
                entries, at least one is taken, however large it is.
        """
        return self._commands.run(self.reading(count, most_bytes))

    def reading(self, count: int, most_bytes: int) -> Step[list[Delivery]]:
        """Returns the step that reads."""
        keys = [self.keys.frames, self.keys.accounting, self.keys.unread]
        words = [CONSUMER_GROUP, self.consumer, count, most_bytes, self._largest]
        return Step("read", keys, words, self._was_read)

    def _was_read(self, reply: Any) -> list[Delivery]:
        seconds, micros, entries, self._last_id, self.dropped_unread, newest, largest = reply
        self._largest = max(largest, int(self._largest * _FORGETTING))
        self._set_clock(seconds, micros)
        self._arrivals.note_read(newest, self.now())
        deliveries = [self._new_delivery(entry_id, _fields(words)) for entry_id, words in entries]
        self.read_until = deliveries[-1].arrived_at or 0.0 if deliveries else self.now()
        return deliveries

    def _new_delivery(self, entry_id: bytes, fields: dict[bytes, bytes]) -> Delivery:
        return Delivery(entry_id.decode() + self.mark, fields, 1, self._arrivals.date(entry_id, fields))

    def wait(self, seconds: float) -> bool:
        """Returns as soon as an entry arrives after those that were read, or after this many seconds; whether one did.

        The entry comes with the reply, but isn't kept. One that took a while has arrived just now, and none before it.
        """
        milliseconds = max(1, int(seconds * 1000))
        words = ("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS", self.keys.frames, self._last_id)

        def read(client: redis.Redis) -> Any:
            return client.execute_command(*words, **BEGINNING_ONLY)  # type: ignore[no-untyped-call]

        began = self._commands.now()
        arrived = bool(self._commands.call("wait", read))
        if not arrived or self._commands.now() - began > _AT_ONCE_S:
            self.read_until = self.now()
        return arrived

    # Entries that were delivered before

    def unsettled(self, count: int = 1000) -> dict[str, int]:
        """Returns what this consumer holds according to Redis, oldest first: the id, and how often it was delivered."""
        frames = self.keys.frames
        rows = self._commands.call(
            "unsettled",
            lambda client: client.xpending_range(frames, CONSUMER_GROUP, "-", "+", count, self.consumer),
        )
        return {row["message_id"].decode() + self.mark: row["times_delivered"] for row in rows}

    def take(self, entry_ids: Sequence[str], most_bytes: int = MOST_BYTES) -> list[Delivery]:
        """Takes up again those that this consumer still holds; those that the queue has dropped are dead-lettered.

        Args:
            entry_ids: what to take up, in this order.
            most_bytes: as for :meth:`read`. What doesn't fit isn't taken up.
        """
        keys = [self.keys.frames, self.keys.accounting, self.keys.dead]
        seconds, micros, entries, dropped = self._commands.script(
            "take", keys, CONSUMER_GROUP, self.consumer, self._dead_maxlen, most_bytes, *self._bare(entry_ids)
        )
        self._on_dead(DeadReason.TRIMMED, dropped)
        self._set_clock(seconds, micros)
        return [self._old_delivery(entry_id.decode(), _fields(words), times) for entry_id, words, times in entries]

    def _old_delivery(self, entry_id: str, fields: dict[bytes, bytes], times: int) -> Delivery:
        """Returns a delivery from before a restart. When it was read isn't known, so it is as old as it says."""
        arrived_at = min(self.now(), claimed_arrival(arrival_time(entry_id), fields))
        return Delivery(entry_id + self.mark, fields, times, arrived_at)

    def adopt(self, idle: float) -> int:
        """Takes over all deliveries without a sign of life for this many seconds; returns how many."""
        keys = [self.keys.frames, self.keys.accounting, self.keys.dead]
        first, adopted = b"-", 0
        while first:
            first, number, dropped = self._commands.script(
                "adopt", keys, CONSUMER_GROUP, self.consumer, self._dead_maxlen, _milliseconds(idle), first, _PAGE
            )
            self._on_dead(DeadReason.TRIMMED, dropped)
            adopted += int(number)
        return adopted

    def reconcile(self) -> int:
        """Dead-letters what was delivered and is neither settled nor pending any more; returns how many deliveries."""
        keys = [self.keys.frames, self.keys.accounting, self.keys.dead]
        fields = accounting.settled_fields()
        lost = int(self._commands.script("reconcile", keys, CONSUMER_GROUP, self._dead_maxlen, *fields))
        self._on_dead(DeadReason.LOST, lost)
        if lost:
            logger.error("the consumer group was changed by hand and forgot deliveries", extra={"deliveries": lost})
        return lost

    def extend_hold(self, entry_ids: Sequence[str]) -> None:
        """Gives a sign of life for what this worker holds, so that no other worker adopts it."""
        self._commands.script("set_idle", [self.keys.frames], CONSUMER_GROUP, self.consumer, 0, *self._bare(entry_ids))

    def release(self, entry_ids: Sequence[str]) -> None:
        """Lets other workers adopt these at once."""
        ids = self._bare(entry_ids)
        self._commands.script("set_idle", [self.keys.frames], CONSUMER_GROUP, self.consumer, _ONE_DAY_MS, *ids)

    def set_deliveries(self, times: Mapping[str, int]) -> None:
        """Sets how often entries that this consumer holds count as delivered; 0: nobody has decided about it yet."""
        words = [word for entry_id, number in times.items() for word in (entry_id.removesuffix(self.mark), number)]
        self._commands.script("set_deliveries", [self.keys.frames], CONSUMER_GROUP, self.consumer, *words)

    def pending(self) -> int:
        """Returns the number of deliveries, of all workers, that aren't settled."""
        reply = self._commands.call("pending", lambda client: client.xpending(self.keys.frames, CONSUMER_GROUP))
        return int(reply["pending"])

    # Payloads

    def payloads(self, keys: Sequence[bytes]) -> Sequence[bytes | EntryError | QueueError | None]:
        """Fetches encoded pictures.

        Returns:
            For each key the picture, None if the key doesn't exist (any more), or why it can't be the key of a picture.

        Raises:
            QueueError: Redis can't be used, or rejected a GET for a reason that isn't the key's. All may be fetched again.
        """

        def get(client: redis.Redis) -> list[bytes | EntryError | None]:
            replies = exchange([Request(client, ("GET", key)) for key in keys])
            return [payload_of(self.keys, key, reply) for key, reply in zip(keys, replies, strict=True)]

        payloads: list[bytes | EntryError | None] = self._commands.call("payloads", get)
        return payloads

    def inline_payloads(self, entry_ids: Sequence[str]) -> Sequence[bytes | QueueError | None]:
        """Fetches pictures inside entries again; None for an entry that the queue has dropped. Raises QueueError."""

        def get(client: redis.Redis) -> list[bytes | None]:
            ids = self._bare(entry_ids)
            replies = exchange([Request(client, ("XRANGE", self.keys.frames, each, each)) for each in ids])
            if errors := [reply for reply in replies if isinstance(reply, redis.RedisError)]:
                raise errors[0]
            return [entries[0][1].get(b"frame") if entries else None for entries in replies]

        payloads: list[bytes | None] = self._commands.call("inline payloads", get)
        return payloads

    # Settling

    def skip(self, deliveries: Sequence[Skipped], left: list[Skipped] | None = None) -> dict[SkipReason, int]:  # noqa: ARG002
        """Settles deliveries as skipped; returns how many of them were still pending, by reason. None is left."""
        return self._commands.run(self.skipping(deliveries))

    def skipping(self, deliveries: Sequence[Skipped]) -> Step[dict[SkipReason, int]]:
        """Returns the step that skips."""
        reasons: defaultdict[SkipReason, list[Skipped]] = defaultdict(list)
        for settled in deliveries:
            reasons[settled.reason].append(settled)
        keys: list[str | bytes] = [self.keys.frames, self.keys.accounting]
        words: list[object] = [CONSUMER_GROUP]
        for reason, skips in reasons.items():
            pictures = self._pictures(skips)
            keys += pictures
            ids = self._bare([skip.entry_id for skip in skips])
            words += [accounting.skipped_field(reason), len(pictures), len(skips), *ids]
        return Step("skip", keys, words, lambda ended: dict(zip(reasons, ended, strict=True)))

    def settle(
        self,
        deliveries: Sequence[Counted | Dead],
        updates: Sequence[StreamUpdate] = (),
        left: list[Counted | Dead] | None = None,  # noqa: ARG002
    ) -> list[bool]:
        """Settles deliveries as counted or dead-lettered, and writes what is kept of streams, in one step. None is left.

        Args:
            deliveries: what to settle.
            updates: what to write; their totals are set.
            left: stays empty.

        Returns:
            For each delivery whether it was still pending.

        Raises:
            QueueError: all may be repeated.
        """
        return self._commands.run(self.settling(deliveries, updates))

    def settling(self, deliveries: Sequence[Counted | Dead], updates: Sequence[StreamUpdate]) -> Step[list[bool]]:
        """Returns the step that settles."""
        keys: list[str | bytes] = [self.keys.frames, self.keys.accounting, self.keys.counts, self.keys.dead]
        words: list[object] = [CONSUMER_GROUP, self._counts_maxlen, self._dead_maxlen, TTL_S, len(deliveries)]
        for delivery in deliveries:
            settled = delivery._replace(entry_id=delivery.entry_id.removesuffix(self.mark)) if self.mark else delivery
            field, entry = accounting.encode(settled)
            picture = self._pictures([settled])
            keys += picture
            words += [field, settled.entry_id, len(picture), len(entry), *entry]
        for update in updates:
            keys += [self.keys.stream(update.stream_name), self.keys.preview(update.stream_name)]
            words += update.words()

        def was_settled(reply: Any) -> list[bool]:
            ended, totals, problem = reply
            for update, total in zip(updates, totals, strict=True):
                update.totals = tuple(total) or None
            self._report_unwritten(problem.decode(errors="replace"))
            return [acknowledged == 1 for acknowledged in ended]

        return Step("settle", keys, words, was_settled)

    def _report_unwritten(self, problem: str) -> None:
        """Logs a reason why streams can't be written, once: nothing is lost, and the next update may succeed."""
        if problem and problem != self._unwritten:
            about = {"error": problem, "hint": "grant the permissions in docs/redis-acl.md"}
            logger.warning("what is kept of streams can't be written; frames are counted all the same", extra=about)
        self._unwritten = problem or self._unwritten

    def _pictures(self, settled: Sequence[Settled]) -> list[bytes]:
        return [] if self._keep_payloads else accounting.pictures(settled, self.keys)

    # Consumers

    def retire(self, idle: float) -> None:
        """Deletes the consumers that hold nothing and were silent for this many seconds: workers that are gone."""
        self._commands.script("retire", [self.keys.frames], CONSUMER_GROUP, "", _milliseconds(idle))

    def leave(self) -> None:
        """Deletes this consumer if it holds nothing."""
        self._commands.script("retire", [self.keys.frames], CONSUMER_GROUP, self.consumer, _FOR_EVER_MS)

    def check_partitions(self) -> None:
        """Raises PartitionsError if the number in Redis is another one, QueueError if it can't be read."""
        if number := self._number:
            self._commands.call("partitions", lambda _client: number.check())

    def report_missing_permissions(self) -> None:
        """Logs which permissions Redis' user lacks, so that they don't show only when they are needed. Raises QueueError."""
        probes = worker_probes(self.keys)
        missing = self._commands.call("permissions", lambda client: missing_permissions(client, probes))
        log_missing_permissions(missing)

    def close(self) -> None:
        """Closes the connections."""
        self._commands.close()

    def _bare(self, entry_ids: Sequence[str]) -> Sequence[str]:
        return [each.removesuffix(self.mark) for each in entry_ids] if self.mark else entry_ids

    def _set_clock(self, seconds: bytes, micros: bytes) -> None:
        if step := self._clock.set(seconds, micros):
            self._arrivals.shift(step)


def _milliseconds(seconds: float) -> int:
    """Returns a duration, which may be infinite, as Redis takes it."""
    return int(min(seconds * 1000, _FOR_EVER_MS))


def _fields(words: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(words[::2], words[1::2], strict=True))
