"""The worker's threads over several partitions, with a real Valkey whose replies get lost."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from support.partitioned import PartitionedFrames
from support.pipelines import EveryNth, ReaderAndSettler
from support.processes.workers import QueueServer
from support.waiting import wait_until

from worker.pipeline import reader
from worker.queue import commands as commands_module
from worker.queue.exchange import Request, exchange
from worker.queue.open_queue import open_queue
from worker.queue.partition_number import PartitionsError
from worker.queue.partitioned import PartitionedQueue

PARTITIONS = 4


@pytest.fixture
def frames(valkey: QueueServer) -> Iterator[PartitionedFrames]:
    """A queue of four partitions on one server."""
    with contextlib.closing(PartitionedFrames(valkey.url, PARTITIONS)) as opened:
        yield opened


@pytest.fixture
def opened(frames: PartitionedFrames) -> Iterator[Callable[..., PartitionedQueue]]:
    """Opens consumers of it."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "me", *, drain: bool = True) -> PartitionedQueue:
            queue = open_queue(frames.connections, frames.partitions, range(PARTITIONS), name, drain=drain)
            assert isinstance(queue, PartitionedQueue)
            stack.callback(queue.close)
            return queue

        yield make


def test_one_decision_is_for_all_partitions(frames: PartitionedFrames, opened: Callable[..., PartitionedQueue]) -> None:
    """What is admitted is counted, the rest is skipped, and the accounting of each partition is exact."""
    frames.publish_many(60, streams=12)
    limiter = EveryNth(6)
    jobs = ReaderAndSettler(opened(), limiter).run()
    assert [len(batch) for batch in limiter.batches] == [60]
    assert len(jobs) == 10
    assert frames.accounting() == {"received": 60, "counted": 10, "skipped:too_soon": 50}
    assert frames.balances() == [0] * PARTITIONS


@pytest.mark.parametrize("lost", ["read", "skip", "settle"])
def test_a_lost_reply_of_one_partition_loses_nothing(
    frames: PartitionedFrames, opened: Callable[..., PartitionedQueue], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Redis has executed the script. What it did isn't done twice, and what it delivered is taken up."""
    queue = opened()
    queue.read(1)  # creates the consumer groups; without them, and without the scripts, nothing would be executed
    queue.parts[0].skip(())
    queue.parts[0].settle(())
    frames.publish_many(60, streams=12)
    first = queue.parts[0]
    step = {"read": first.reading(1, 1), "skip": first.skipping(()), "settle": first.settling((), ())}[lost]
    sha = first.commands.request(step).words[1]  # type: ignore[arg-type]
    losses = [0]

    def losing(requests: Sequence[Request]) -> list[Any]:
        replies = exchange(requests)
        for i, request in enumerate(requests):
            if request.words[1] == sha and not losses[0] and not isinstance(replies[i], redis.RedisError):
                losses[0] += 1
                replies[i] = redis.TimeoutError("the reply was lost")
        return replies

    monkeypatch.setattr(commands_module, "exchange", losing)
    ReaderAndSettler(queue, EveryNth(2)).run()
    assert losses == [1]
    fields = frames.accounting()
    assert fields["received"] == 60
    assert fields["counted"] + fields["skipped:too_soon"] == 60
    assert frames.balances() == [0] * PARTITIONS
    assert not queue.problem


def test_entries_that_come_later_are_read(frames: PartitionedFrames, opened: Callable[..., PartitionedQueue]) -> None:
    """Of any partition, by a reader that waits for all of them."""
    parts = ReaderAndSettler(opened(drain=False), EveryNth(), drain=False)
    thread = parts.read()
    try:
        for i in range(12):
            frames.publish(f"cam{i}", 1.0)
            wait_until(lambda i=i: len(parts.held) == i + 1, "the entry is read")
    finally:
        parts.end(thread)


def test_a_suspect_is_alone_whatever_its_partition(
    frames: PartitionedFrames, opened: Callable[..., PartitionedQueue]
) -> None:
    """An entry that crashes its worker uses up its own deliveries, not those of suspects in other partitions."""
    for partition in range(PARTITIONS):
        frames.publish(next(name for name in map(str, range(100)) if frames.partitions.of(name) == partition), 1.0)
    gone = opened()
    for part in gone.parts:
        ids = [delivery.entry_id for delivery in part.read(100)]
        part.take(ids)  # the second delivery of each
    parts = ReaderAndSettler(opened(), EveryNth())
    thread = parts.read()  # nothing is counted meanwhile
    try:
        wait_until(lambda: parts.held, "a suspect is taken up")
        for _ in range(20):
            before = parts.reader.turned_at
            wait_until(lambda before=before: parts.reader.turned_at > before, "the reader looks again")
            assert len(parts.held) == 1
    finally:
        parts.end(thread)


def test_a_worker_notices_that_the_number_has_changed(
    frames: PartitionedFrames, opened: Callable[..., PartitionedQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody forgot to stop it; it would read partitions to which nobody publishes any more."""
    monkeypatch.setattr(reader, "CHECK_S", 0.01)
    parts = ReaderAndSettler(opened(drain=False), EveryNth(), drain=False)
    ended: list[Exception] = []

    def read() -> None:
        try:
            parts.reader.run()
        except PartitionsError as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    client = frames.connections.client(frames.partitions.number_key)
    wait_until(lambda: client.get(frames.partitions.number_key) == b"4", "the worker has noted its number")
    client.set(frames.partitions.number_key, 8)
    thread.join(60.0)
    assert str(ended[0]).startswith("the queue has 8 partitions, not 4")
