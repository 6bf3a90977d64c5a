"""Builds what a worker reads: the only partition, or several as one."""

from collections.abc import Callable, Sequence

from worker.queue.commands import Commands
from worker.queue.connections import Connections
from worker.queue.consumer import Queue
from worker.queue.frame import DeadReason
from worker.queue.outages import Outages
from worker.queue.partitioned import PartitionedQueue, WorkerQueue, mark_of
from worker.queue.partitions import Partitions

LEAST_KEPT = 100
"""Of results and dead letters in each partition, however many partitions there are."""


def open_queue(
    connections: Connections,
    partitions: Partitions,
    read: Sequence[int],
    consumer: str,
    *,
    counts_maxlen: int = 10_000,
    dead_maxlen: int = 10_000,
    keep_payloads: bool = False,
    on_dead: Callable[[DeadReason, int], None] = lambda _reason, _number: None,
    drain: bool = False,
) -> WorkerQueue:
    """Returns a consumer, which connects to nothing yet.

    Args:
        connections: where the queue is.
        partitions: all there are.
        read: those that this worker reads.
        consumer: its name in the consumer groups.
        counts_maxlen: about how many results are kept, in all partitions together.
        dead_maxlen: about how many dead letters are kept, likewise.
        keep_payloads: whether pictures stay until their TTL, although their frame is settled.
        on_dead: called with the number of deliveries that were dead-lettered by a script.
        drain: whether reads try all partitions, because the worker ends when they are empty.
    """
    several = partitions.number > 1
    outages = Outages()
    queues = {
        each: Queue(
            Commands(connections.client(keys.frames), keys, place=str(each) if several else "", outages=outages),
            consumer,
            counts_maxlen=part_of(counts_maxlen, partitions.number),
            dead_maxlen=part_of(dead_maxlen, partitions.number),
            keep_payloads=keep_payloads,
            on_dead=on_dead,
            mark=mark_of(each) if several else "",
            partitions=None if several else partitions,
        )
        for each, keys in ((each, partitions.keys(each)) for each in read)
    }
    if not several:
        return queues[0]
    common = Commands(connections.client(partitions.number_key), partitions.only, outages=outages)
    return PartitionedQueue(queues, partitions, common, outages, drain=drain)


def part_of(maxlen: int, number: int) -> int:
    """Returns the part of a cap that each of so many partitions has."""
    return maxlen if number == 1 else max(min(maxlen, LEAST_KEPT), -(-maxlen // number))
