"""Several partitions as one queue: on one server, and on a real cluster of three nodes."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from support.partitioned import PartitionedFrames
from support.redis.topologies import Cluster, cluster
from support.redis.valkey import Valkey
from support.waiting import wait_until

from worker.queue.commands import QueueError
from worker.queue.delivery import Counted, Dead, Delivery, Skipped, dead_letter
from worker.queue.frame import DeadReason, EntryError, SkipReason
from worker.queue.open_queue import open_queue, part_of
from worker.queue.partition_number import PartitionsError
from worker.queue.partitioned import PartitionedQueue
from worker.queue.partitions import Partitions, Share
from worker.queue.stream_update import StreamUpdate

PARTITIONS = 6
"""Of these, two nodes have one and the third has four."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster for all tests of the module."""
    with cluster() as running:
        yield running


@pytest.fixture
def frames(nodes: Cluster) -> Iterator[PartitionedFrames]:
    """An empty queue of six partitions in the cluster."""
    for node in nodes.nodes:
        nodes.ask(node, "FLUSHALL")
    with contextlib.closing(PartitionedFrames(nodes.url, PARTITIONS)) as opened:
        yield opened


ALL = Share()

Consumers = Callable[..., PartitionedQueue]


@pytest.fixture
def consumers(frames: PartitionedFrames) -> Iterator[Consumers]:
    """Opens consumers of that queue."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "me", share: Share = ALL, **options: object) -> PartitionedQueue:
            read = share.partitions(PARTITIONS)
            queue = open_queue(frames.connections, frames.partitions, read, name, **options)  # type: ignore[arg-type]
            assert isinstance(queue, PartitionedQueue)
            stack.callback(queue.close)
            return queue

        yield make


def read_all(queue: PartitionedQueue, number: int) -> list[Delivery]:
    """Reads so many entries, in as many reads as that takes."""
    deliveries: list[Delivery] = []

    def have() -> bool:
        deliveries.extend(queue.read(4096))
        if len(deliveries) < number:
            queue.wait(0.05)
        return len(deliveries) >= number

    wait_until(have)
    return deliveries


def skips(deliveries: list[Delivery]) -> list[Skipped]:
    """Returns what settles deliveries as stale."""
    return [
        Skipped(each.entry_id, SkipReason.STALE, each.fields[b"stream_name"].decode(), each.fields[b"frame_key"])
        for each in deliveries
    ]


def test_entries_of_all_partitions_are_read_and_settled(frames: PartitionedFrames, consumers: Consumers) -> None:
    """Each with an id that no other has, and the accounting is in the entry's own partition."""
    frames.publish_many(60, streams=12)
    queue = consumers()
    deliveries = read_all(queue, 60)
    assert len({each.entry_id for each in deliveries}) == 60
    for each in deliveries:
        partition = frames.partitions.of(each.fields[b"stream_name"].decode())
        assert each.entry_id.endswith(f"@{partition}")
    counted = [
        Counted(each.entry_id, each.fields[b"stream_name"].decode(), 1.0, 2, "{}", each.fields[b"frame_key"])
        for each in deliveries[:20]
    ]
    dead: list[Counted | Dead] = [dead_letter(each, DeadReason.UNDECODABLE, "none") for each in deliveries[20:30]]
    updates = [StreamUpdate(f"cam{i}", 1000.0, received=5, counted=1) for i in range(12)]
    left: list[Counted | Dead] = []
    assert queue.settle([*counted, *dead], updates, left) == [True] * 30
    assert not left
    assert all(update.totals == (5, 1) for update in updates)
    unskipped: list[Skipped] = []
    assert queue.skip(skips(deliveries[30:]), unskipped) == {SkipReason.STALE: 30}
    assert queue.skip(skips(deliveries[30:]), unskipped) == {SkipReason.STALE: 0}
    assert frames.accounting() == {"received": 60, "counted": 20, "dead:undecodable": 10, "skipped:stale": 30}
    assert frames.balances() == [0] * PARTITIONS
    assert queue.pending() == frames.pending() == 0
    for keys in frames.partitions:
        client = frames.client(keys)
        assert not list(client.keys(keys.payload("*")))  # the pictures went with their entries
        assert all(b"@" not in fields[b"entry_id"] for _, fields in client.xrange(keys.dead))
    keys = frames.partitions.keys_of("cam3")
    assert frames.client(keys).hget(keys.stream("cam3"), "received") == b"5"


def test_pictures_are_fetched_from_all_partitions(frames: PartitionedFrames, consumers: Consumers) -> None:
    """In the order in which they are asked for. A key elsewhere isn't looked at."""
    for i in range(12):
        frames.publish(f"cam{i}", 1.0, b"picture %d" % i)
    queue = consumers()
    keys = {each.fields[b"stream_name"]: each.fields[b"frame_key"] for each in read_all(queue, 12)}
    asked = [keys[b"cam%d" % i] for i in range(12)]
    *pictures, foreign, gone = queue.payloads([*asked, b"elsewhere", b"{hand_counter:2}:frame:gone"])
    assert pictures == [b"picture %d" % i for i in range(12)]
    assert isinstance(foreign, EntryError)
    assert foreign.reason is DeadReason.BAD_FRAME_KEY
    assert gone is None


def test_waiting_ends_with_an_entry_in_any_partition(frames: PartitionedFrames, consumers: Consumers) -> None:
    """Although each is waited for on its own server."""
    queue = consumers()
    assert not queue.read(100)  # all are looked at once
    assert queue.read_until == pytest.approx(queue.now(), abs=1.0)
    for i in range(12):
        frames.publish(f"cam{i}", 1.0)
        (delivery,) = read_all(queue, 1)
        assert delivery.fields[b"stream_name"] == b"cam%d" % i


def test_shares_divide_the_partitions(frames: PartitionedFrames, consumers: Consumers) -> None:
    """Each entry is read by the worker whose share has its partition."""
    frames.publish_many(60, streams=12)
    shares = [consumers(f"worker-{i}", Share(i, 4)) for i in range(4)]
    found = [read_all(queue, 0) for queue in shares]
    marks = [{each.entry_id.partition("@")[2] for each in deliveries} for deliveries in found]
    assert marks == [{"0", "4"}, {"1", "5"}, {"2"}, {"3"}]
    assert sum(map(len, found)) == 60


def test_what_is_held_is_released_and_adopted(frames: PartitionedFrames, consumers: Consumers) -> None:
    """By partition."""
    frames.publish_many(24, streams=12)
    queue, other = consumers("me"), consumers("other")
    held = [each.entry_id for each in read_all(queue, 24)]
    queue.extend_hold(held)
    queue.set_deliveries(dict.fromkeys(held, 2))
    assert sum(len(part.unsettled()) for part in queue.parts) == 24
    assert {times for part in queue.parts for times in part.unsettled().values()} == {2}
    queue.release(held)
    assert sum(part.adopt(3600.0) for part in other.parts) == 24
    taken = [each for part in other.parts for each in part.take(list(part.unsettled()))]
    assert sorted(each.entry_id for each in taken) == sorted(held)
    other.skip(skips(taken), [])
    queue.leave()
    assert frames.balances() == [0] * PARTITIONS


def test_a_lost_node_holds_up_no_other(consumers: Consumers, nodes: Cluster, frames: PartitionedFrames) -> None:
    """What belongs to it is left for later, and all of it is settled once the node works again."""
    frames.publish_many(60, streams=12)
    queue = consumers()
    deliveries = read_all(queue, 60)
    lost: Valkey = nodes.node_of(frames.partitions.keys(0).frames.encode())
    theirs = {i for i in range(PARTITIONS) if nodes.node_of(frames.partitions.keys(i).frames.encode()) is lost}
    lost.pause()
    try:
        left: list[Skipped] = []
        queue.skip(skips(deliveries), left)  # waits for the node, until it counts as unreachable
        assert {int(each.entry_id.partition("@")[2]) for each in left} == theirs
        assert "reach" in queue.problem or "Timeout" in queue.problem
        others = list(queue.payloads([each.fields[b"frame_key"] for each in deliveries]))
        assert {isinstance(each, QueueError) for each in others} == {True, False}
        assert not queue.read(100)
    finally:
        lost.resume()
    again: list[Skipped] = list(left)

    def settled() -> bool:
        rest: list[Skipped] = []
        try:
            queue.skip(again, rest)
        except QueueError:
            return False
        return not rest

    wait_until(settled, "the rest is settled")
    assert frames.accounting() == {"received": 60, "skipped:stale": 60}
    assert frames.balances() == [0] * PARTITIONS
    assert not queue.problem


def test_another_number_of_partitions_is_refused(frames: PartitionedFrames, consumers: Consumers) -> None:
    """With the way out; the first to start notes its number."""
    consumers().check_partitions()
    consumers().check_partitions()
    for number in (1, 4):
        other = open_queue(frames.connections, Partitions("hand_counter", number), [0], "other")
        with pytest.raises(PartitionsError, match=r"has 6 partitions, not .: give --partitions 6, or .* repartition"):
            other.check_partitions()


def test_a_queue_from_before_has_one_partition(frames: PartitionedFrames, consumers: Consumers) -> None:
    """It has entries, but no number."""
    keys = frames.partitions.only
    frames.client(keys).xadd(keys.frames, {"stream_name": "cam1"})
    with pytest.raises(PartitionsError, match="has 1 partition, not 6"):
        consumers().check_partitions()
    open_queue(frames.connections, Partitions("hand_counter", 1), [0], "me").check_partitions()


def test_a_number_that_is_none_is_refused(frames: PartitionedFrames, consumers: Consumers) -> None:
    """Somebody wrote something else there."""
    frames.client(frames.partitions.only).set(frames.partitions.number_key, "many")
    with pytest.raises(PartitionsError, match="isn't one from 1 to 4096: b'many'"):
        consumers().check_partitions()


@pytest.mark.parametrize(
    ("maxlen", "number", "part"),
    [(10_000, 1, 10_000), (10_000, 4, 2500), (10_000, 64, 157), (10_000, 4096, 100), (10, 8, 10)],
)
def test_caps_are_divided(maxlen: int, number: int, part: int) -> None:
    """But each partition keeps some."""
    assert part_of(maxlen, number) == part
