"""Dividing a queue into another number of partitions, in a real cluster."""

import contextlib
from collections.abc import Iterator

import pytest
import redis
from support.partitioned import PartitionedFrames
from support.redis.topologies import Cluster, cluster

from worker.__main__ import main
from worker.queue import repartition
from worker.queue.delivery import Counted
from worker.queue.open_queue import open_queue
from worker.queue.partition_number import PartitionsError, read_partitions
from worker.queue.repartition import Repartition, UndrainedError


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster for all tests of the module."""
    with cluster() as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(nodes: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is empty, and nobody waits for signs of life to grow old."""
    for node in nodes.nodes:
        nodes.ask(node, "FLUSHALL")
    monkeypatch.setattr(repartition, "ACTIVE_S", 0.0)


@contextlib.contextmanager
def divided(nodes: Cluster, number: int) -> Iterator[PartitionedFrames]:
    """Opens the queue as one of so many partitions."""
    with contextlib.closing(PartitionedFrames(nodes.url, number)) as frames:
        yield frames


def drain(frames: PartitionedFrames, *, leave: int = 0) -> None:
    """Reads everything and settles it, but for so many entries."""
    number = frames.partitions.number
    queue = open_queue(frames.connections, frames.partitions, range(number), "me", drain=True)
    queue.check_partitions()
    held = []
    while deliveries := queue.read(1000):
        held += deliveries
    settled = [Counted(each.entry_id, each.fields[b"stream_name"].decode(), 1.0, 2, "{}") for each in held]
    queue.settle(settled[leave:], (), [])
    queue.close()


def change(nodes: Cluster, number: int) -> int:
    """Runs the command; returns its exit code."""
    return main(["repartition", "--redis-url", nodes.url, "--partitions", str(number)])


@pytest.mark.parametrize("numbers", [(1, 6), (6, 1), (6, 4, 8)])
def test_the_accounting_goes_along(nodes: Cluster, numbers: tuple[int, ...]) -> None:
    """Whether or not partitions remain, and as often as it is changed."""
    total = 0
    for before, number in zip((None, *numbers), numbers, strict=False):
        if before is not None:
            assert change(nodes, number) == 0
        with divided(nodes, number) as frames:
            assert frames.accounting() == ({"received": total, "counted": total} if total else {})
            frames.publish_many(24, streams=12)
            total += 24
            drain(frames)
            assert frames.accounting() == {"received": total, "counted": total}
            assert frames.balances() == [0] * number


def test_old_results_stay_for_a_day(nodes: Cluster) -> None:
    """Under their old keys; the entries themselves are gone, and no others are taken for a while."""
    with divided(nodes, 4) as frames:
        frames.publish_many(24, streams=12)
        drain(frames)
        assert change(nodes, 2) == 0
        for partition in (2, 3):
            keys = frames.partitions.keys(partition)
            assert 86_000 < frames.client(keys).ttl(keys.counts) <= 86_400
            assert not frames.client(keys).exists(keys.accounting, keys.unread)
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                frames.client(keys).xadd(keys.frames, {"ts": "1"})
            assert 0 < frames.client(keys).ttl(keys.frames) <= repartition.CLOSED_S
        for partition in (0, 1):
            keys = frames.partitions.keys(partition)
            assert frames.client(keys).ttl(keys.counts) == -1


def test_results_of_a_partition_that_is_in_use_again_stay(nodes: Cluster) -> None:
    """They don't go with those from before, a day after it was given up."""
    for before, number in ((4, 2), (2, 4)):
        with divided(nodes, before) as frames:
            frames.publish_many(24, streams=12)
            drain(frames)
        assert change(nodes, number) == 0
    with divided(nodes, 4) as frames:
        frames.publish_many(24, streams=12)
        drain(frames)
        for keys in frames.partitions:
            assert frames.client(keys).ttl(keys.counts) == -1


def test_a_queue_with_entries_is_refused(nodes: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether nobody has read them, or nobody has settled them; and nothing changes."""
    with divided(nodes, 2) as frames:
        frames.connections.client(frames.partitions.number_key).set(frames.partitions.number_key, 2)
        frames.publish_many(12, streams=12)
        assert change(nodes, 4) == 1
        assert "entries that no worker has read" in capsys.readouterr().err
        drain(frames, leave=3)
        assert change(nodes, 4) == 1
        errors = capsys.readouterr().err
        assert "entries that aren't settled" in errors
        assert "nothing is changed: stop the publishers" in errors
        client = frames.connections.client(frames.partitions.number_key)
        assert read_partitions(client, "hand_counter") == frames.partitions


def test_a_queue_that_has_the_number_says_so(nodes: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever waits in it."""
    with divided(nodes, 2) as frames:
        frames.connections.client(frames.partitions.number_key).set(frames.partitions.number_key, 2)
        frames.publish_many(12, streams=12)
        assert change(nodes, 2) == 0
        assert "the queue already has this number of partitions partitions=2" in capsys.readouterr().err


def test_few_of_many_reasons_are_shown(nodes: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of many partitions has one."""
    with divided(nodes, 12) as frames:
        frames.connections.client(frames.partitions.number_key).set(frames.partitions.number_key, 12)
        frames.publish_many(100, streams=100)
        assert change(nodes, 4) == 1
        errors = capsys.readouterr().err
        assert errors.count("no worker has read") == 10
        assert "there are more reasons like these reasons=12" in errors


def test_a_queue_in_use_is_refused(nodes: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker or a publisher showed signs of life a moment ago."""
    monkeypatch.setattr(repartition, "ACTIVE_S", 3600.0)
    with divided(nodes, 1) as frames:
        frames.publish_many(4)
        drain(frames)
        with pytest.raises(UndrainedError) as caught:
            Repartition(frames.connections, "hand_counter", 4).run()
    assert caught.value.reasons == [
        "the worker me still reads {hand_counter}:frames",
        "an entry was added to {hand_counter}:frames in the last 3600 s",
    ]


def test_a_change_that_failed_half_way_is_finished(nodes: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is run again; the accounting is added once."""
    with divided(nodes, 4) as frames:
        frames.publish_many(24, streams=12)
        drain(frames)
        lost: list[object] = []

        def dissolve(change: Repartition, keys: object) -> None:
            done(change, keys)  # type: ignore[arg-type]
            if not lost:
                lost.append(keys)
                raise redis.ConnectionError("the connection is lost")

        done = Repartition._dissolve
        monkeypatch.setattr(Repartition, "_dissolve", dissolve)
        with pytest.raises(redis.ConnectionError):
            Repartition(frames.connections, "hand_counter", 1).run()
        with pytest.raises(PartitionsError, match="a change to 1 partitions is under way"):
            Repartition(frames.connections, "hand_counter", 2).run()
        assert Repartition(frames.connections, "hand_counter", 1).run() == 4
        assert Repartition(frames.connections, "hand_counter", 1).run() == 1
    with divided(nodes, 1) as frames:
        assert frames.accounting() == {"received": 24, "counted": 24}
        assert not frames.client(frames.partitions.only).exists("{hand_counter}:repartition", "{hand_counter}:carried")
