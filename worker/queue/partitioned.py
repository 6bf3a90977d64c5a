"""Several partitions as one queue: what a worker reads, holds and settles, in one round trip to each server.

It has the methods of :class:`worker.queue.consumer.Queue` for new entries, pictures and settling. Ids of entries are
followed by a mark, ``@`` and the partition, because two partitions may have entries with the same id. Entries that were
delivered before are taken up by partition (``parts``).

A partition whose server can't be reached doesn't hold up the others. What can't be written is handed back (``left``), and a
partition that can't be read is left out until it works again.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import redis

from worker.queue.commands import Commands, QueueError, run_all
from worker.queue.consumer import MOST_BYTES, Queue
from worker.queue.delivery import Counted, Dead, Delivery, Settled, Skipped
from worker.queue.exchange import Request, exchange
from worker.queue.frame import DeadReason, EntryError, SkipReason
from worker.queue.news import News
from worker.queue.outages import Outages
from worker.queue.partition_number import PartitionNumber
from worker.queue.partitions import Partitions
from worker.queue.payload import payload_of
from worker.queue.stream_update import StreamUpdate

MARK = "@"

CLOCKS_DIFFER_S = 0.01
"""A larger difference between two servers' clocks is taken into account."""


T = TypeVar("T")


def mark_of(partition: int) -> str:
    """Returns what follows the ids of a partition's entries."""
    return f"{MARK}{partition}"


class PartitionedQueue:
    """One consumer of several partitions."""

    def __init__(
        self, parts: Mapping[int, Queue], partitions: Partitions, common: Commands, outages: Outages, *, drain: bool
    ) -> None:
        """Joins partitions.

        Args:
            parts: the consumers of the partitions to read, by partition, each with its mark.
            partitions: all there are.
            common: runs commands about what all partitions have in common.
            outages: where the consumers note problems.
            drain: whether each read tries all of them, so that one that returns nothing has found each of them empty.
        """
        self.parts: Sequence[Queue] = list(parts.values())
        self.consumer = self.parts[0].consumer
        self._by_mark = {queue.mark: queue for queue in self.parts}
        self._partitions = partitions
        self._outages = outages
        self._drain = drain
        self._common = common
        self._number = PartitionNumber(common.client, partitions)
        self._news = News(self.parts)

    @property
    def dropped_unread(self) -> int:
        """Entries that these partitions dropped before any worker read them, as of the last reads."""
        return sum(queue.dropped_unread for queue in self.parts)

    @property
    def problem(self) -> str:
        """The error because of which a partition can't be used; empty if all work."""
        return self._outages.problem

    def now(self) -> float:
        """Returns Unix seconds by the clock of the first partition's server, as of its last delivery."""
        return self.parts[0].now()

    # New entries

    def read(self, count: int, most_bytes: int = MOST_BYTES) -> list[Delivery]:
        """Takes new entries, without waiting, from the partitions that have any, and counts them as received.

        Args:
            count: the most entries.
            most_bytes: about the most bytes of pictures inside the entries; each partition may exceed its part by one.
        """
        queues = self.parts if self._drain else self._news.ready(count)
        if not queues:
            return []
        each, bytes_each = max(1, count // len(queues)), max(1, most_bytes // len(queues))
        outcomes = run_all([(queue.commands, queue.reading(each, bytes_each)) for queue in queues])
        deliveries: list[Delivery] = []
        for queue, outcome in zip(queues, outcomes, strict=True):
            if isinstance(outcome, QueueError):
                queue.interrupted = True
                self._news.await_news(queue)
                continue
            if len(outcome) < each and not self._drain:
                self._news.await_news(queue)
            deliveries += self._by_this_clock(queue, outcome)
        return deliveries

    def _by_this_clock(self, queue: Queue, deliveries: list[Delivery]) -> list[Delivery]:
        ahead = queue.now() - self.now()
        if abs(ahead) < CLOCKS_DIFFER_S:
            return deliveries
        return [each._replace(arrived_at=(each.arrived_at or 0.0) - ahead) for each in deliveries]

    @property
    def read_until(self) -> float:
        """All entries that arrived up to then were read, Unix seconds by the clock of :meth:`now`."""
        now = self.now()
        return now - max((queue.now() - queue.read_until for queue in self._news.all_ready()), default=0.0)

    def wait(self, seconds: float) -> None:
        """Returns as soon as a partition may have new entries, or after this many seconds."""
        self._news.wait(seconds, even_if_ready=self._drain)

    # Entries that are held

    def extend_hold(self, entry_ids: Sequence[str]) -> None:
        """Gives a sign of life for what this worker holds. What can't be reached can't be adopted by others either."""
        self._by_part(entry_ids, Queue.extend_hold)

    def release(self, entry_ids: Sequence[str]) -> None:
        """Lets other workers adopt these at once, as far as they can be reached."""
        self._by_part(entry_ids, Queue.release)

    def set_deliveries(self, times: Mapping[str, int]) -> None:
        """Sets how often entries that this consumer holds count as delivered, as far as they can be reached."""

        def set_part(queue: Queue, entry_ids: Sequence[str]) -> None:
            queue.set_deliveries({each: times[each] for each in entry_ids})

        self._by_part(list(times), set_part)

    def pending(self) -> int:
        """Returns the number of deliveries, of all workers, that aren't settled. Raises QueueError if that isn't known."""
        return sum(queue.pending() for queue in self.parts)

    def reconcile(self) -> int:
        """Dead-letters what was delivered and is neither settled nor pending any more; returns how many deliveries."""
        return sum(queue.reconcile() for queue in self.parts)

    def _by_part(self, entry_ids: Iterable[str], command: Callable[[Queue, Sequence[str]], None]) -> None:
        """Runs a command for the entries of each partition; raises QueueError if no partition can be reached."""
        outcomes: list[QueueError | None] = []
        for mark, ids in _grouped(entry_ids, _mark).items():
            try:
                command(self._by_mark[mark], ids)
                outcomes.append(None)
            except QueueError as error:
                outcomes.append(error)
        self._raise_if_none_works(outcomes)

    def _raise_if_none_works(self, outcomes: Sequence[object]) -> None:
        """Raises an error if each partition has one. If only some can't be reached, nobody has to wait for them."""
        errors = [each for each in outcomes if isinstance(each, QueueError)]
        if len(errors) == len(self.parts):
            raise errors[0]

    # Payloads

    def payloads(self, keys: Sequence[bytes]) -> list[bytes | EntryError | QueueError | None]:
        """Fetches encoded pictures.

        Returns:
            For each key the picture, None if the key doesn't exist (any more), why it can't be the key of a picture, or why
            it can't be fetched now.
        """
        owners = [next((queue for queue in self.parts if queue.keys.is_payload(key)), None) for key in keys]
        asked = [(queue, key) for queue, key in zip(owners, keys, strict=True) if queue]
        began = self.parts[0].commands.now()
        replies = iter(exchange([Request(queue.commands.client, ("GET", key)) for queue, key in asked]))
        return [
            _payload(queue, key, next(replies), began) if queue else _foreign(key)
            for queue, key in zip(owners, keys, strict=True)
        ]

    def inline_payloads(self, entry_ids: Sequence[str]) -> list[bytes | QueueError | None]:
        """Fetches pictures inside entries again; None if the queue has dropped the entry, or why it can't be fetched now."""
        payloads: dict[str, bytes | QueueError | None] = {}
        for mark, ids in _grouped(entry_ids, _mark).items():
            try:
                payloads.update(zip(ids, self._by_mark[mark].inline_payloads(ids), strict=True))
            except QueueError as error:
                payloads.update(dict.fromkeys(ids, error))
        return [payloads[each] for each in entry_ids]

    # Settling

    def skip(self, deliveries: Sequence[Skipped], left: list[Skipped]) -> dict[SkipReason, int]:
        """Settles deliveries as skipped; returns how many of them were still pending, by reason.

        Adds those to `left` whose partition can't be reached. Raises QueueError if none of all partitions can.
        """
        groups = list(_grouped(deliveries, _mark_of).items())
        outcomes = run_all(
            [(self._by_mark[mark].commands, self._by_mark[mark].skipping(skips)) for mark, skips in groups]
        )
        self._raise_if_none_works(outcomes)
        ended: Counter[SkipReason] = Counter()
        for (_, skips), outcome in zip(groups, outcomes, strict=True):
            if isinstance(outcome, QueueError):
                left += skips
            else:
                ended.update(outcome)
        return dict(ended)

    def settle(
        self, deliveries: Sequence[Counted | Dead], updates: Sequence[StreamUpdate], left: list[Counted | Dead]
    ) -> list[bool]:
        """Settles deliveries as counted or dead-lettered, and writes what is kept of streams, in one step for each partition.

        Args:
            deliveries: what to settle.
            updates: what to write; their totals are set, or that they are unwritten.
            left: gets those whose partition can't be reached.

        Returns:
            For each delivery whether it was still pending; False for those that are left.

        Raises:
            QueueError: none of all partitions can be reached. All may be repeated.
        """
        numbers = _grouped(range(len(deliveries)), lambda i: _mark(deliveries[i].entry_id))
        of_stream = _grouped(updates, self._mark_of_stream)
        marks = [mark for mark in dict.fromkeys([*numbers, *of_stream]) if mark in self._by_mark]
        outcomes = run_all(
            [
                (
                    queue.commands,
                    queue.settling([deliveries[i] for i in numbers.get(mark, ())], of_stream.get(mark, ())),
                )
                for mark, queue in ((mark, self._by_mark[mark]) for mark in marks)
            ]
        )
        self._raise_if_none_works(outcomes)
        pending = [False] * len(deliveries)
        for mark, outcome in zip(marks, outcomes, strict=True):
            if isinstance(outcome, QueueError):
                left += [deliveries[i] for i in numbers.get(mark, ())]
                for update in of_stream.get(mark, ()):
                    update.unwritten = True
            else:
                for i, was_pending in zip(numbers.get(mark, ()), outcome, strict=True):
                    pending[i] = was_pending
        return pending

    def _mark_of_stream(self, update: StreamUpdate) -> str:
        return mark_of(self._partitions.of(update.stream_name))

    # Consumers

    def leave(self) -> None:
        """Deletes this consumer where it holds nothing, as far as that can be reached."""
        for queue in self.parts:
            with contextlib.suppress(QueueError):
                queue.leave()

    def check_partitions(self) -> None:
        """Raises PartitionsError if the number in Redis is another one, QueueError if it can't be read."""
        self._common.call("partitions", lambda _client: self._number.check())

    def report_missing_permissions(self) -> None:
        """Logs which permissions Redis' user lacks, as the first server that answers says. Raises QueueError if none does."""
        for queue in self.parts:
            try:
                return queue.report_missing_permissions()
            except QueueError as error:
                failure = error
        raise failure

    def close(self) -> None:
        """Ends the threads, and closes the connections."""
        self._outages.close()
        self._news.close()
        for queue in self.parts:
            queue.close()
        self._common.close()


WorkerQueue: TypeAlias = Queue | PartitionedQueue
"""What a worker reads: the only partition, or several."""


def _mark(entry_id: str) -> str:
    return entry_id[entry_id.index(MARK) :]


def _mark_of(settled: Settled) -> str:
    return _mark(settled.entry_id)


def _grouped(items: Iterable[T], mark_of_item: Callable[[T], str]) -> dict[str, list[T]]:
    groups: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[mark_of_item(item)].append(item)
    return groups


def _payload(
    queue: Queue, key: bytes, reply: bytes | redis.RedisError | None, began: float
) -> bytes | EntryError | QueueError | None:
    try:
        payload = payload_of(queue.keys, key, reply)
    except redis.RedisError as error:
        return queue.commands.failed("payloads", error, began)
    queue.commands.succeeded("payloads")
    return payload


def _foreign(key: bytes) -> EntryError:
    return EntryError(
        DeadReason.BAD_FRAME_KEY, f"frame_key {key[:64]!r} isn't beside a partition that this worker reads"
    )
