"""Workers as processes that share the partitions of a real cluster of three nodes, which changes under them."""

import contextlib
import re
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import RedisError
from support.partitioned import PartitionedFrames
from support.processes.programs import REPOSITORY
from support.processes.workers import Worker, worker
from support.redis.topologies import Cluster, answered, cluster
from support.waiting import wait_until

from process.backoff import Backoff
from worker.publish.destination import Destination
from worker.publish.sender import Sender
from worker.publish.source import Captured
from worker.queue.connections import Connections

PARTITIONS = 6


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster of this test, which it may change."""
    with cluster("--appendonly", "yes", "--appendfsync", "no") as running:
        yield running


@pytest.fixture
def frames(nodes: Cluster) -> Iterator[PartitionedFrames]:
    """A queue of six partitions."""
    with contextlib.closing(PartitionedFrames(nodes.url, PARTITIONS)) as opened:
        yield opened


@contextlib.contextmanager
def workers(nodes: Cluster, folder: Path, number: int, *flags: str) -> Iterator[list[Worker]]:
    """Runs workers, each with its share."""
    where = types.SimpleNamespace(url=nodes.url, folder=folder)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                worker(
                    where,  # type: ignore[arg-type]
                    "--partitions",
                    str(PARTITIONS),
                    "--own",
                    f"{i}/{number}",
                    *flags,
                    seconds=0.002,
                )
            )
            for i in range(number)
        ]


@contextlib.contextmanager
def load(frames: PartitionedFrames) -> Iterator[types.SimpleNamespace]:
    """Publishes frames of 24 streams all the time; a frame that may be there already isn't published again."""
    state = types.SimpleNamespace(published=0, errors=0)
    stop = threading.Event()

    def run() -> None:
        backoff, number = Backoff(0.05, 0.2), 0
        while not stop.wait(0.02):
            number += 1
            try:
                frames.publish_many(1, streams=24, first=number)
            except RedisError:
                state.errors += 1
                stop.wait(backoff.next())
            else:
                backoff.reset()
                state.published += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield state
    finally:
        stop.set()
        thread.join()


def settled(frames: PartitionedFrames) -> int:
    """How many deliveries are settled, in all partitions."""
    fields = frames.accounting()
    return sum(fields.values()) - fields["received"]


def test_the_accounting_is_exact_over_a_failover_and_a_slot_migration(
    nodes: Cluster, frames: PartitionedFrames, tmp_path: Path
) -> None:
    """Under load, by two workers that share the partitions: one node is killed, another one hands a partition over."""
    moving = frames.partitions.keys(0).frames.encode()
    source = nodes.node_of(moving)
    lost = next(
        node
        for node in nodes.nodes
        if node is not source and any(nodes.node_of(keys.frames.encode()) is node for keys in frames.partitions)
    )
    target = next(node for node in nodes.nodes if node is not source and node is not lost)
    with nodes.replica_of(lost) as replica:
        with workers(nodes, tmp_path, 2) as processes, load(frames) as published:
            wait_until(answered(lambda: settled(frames) >= 100), "frames are counted")

            nodes.begin_move(moving, target)
            before = published.published
            wait_until(
                lambda: published.published >= before + 20 or published.errors, "frames meet the slot that moves"
            )
            nodes.end_move(moving, source, target)
            before = settled(frames)
            wait_until(answered(lambda: settled(frames) >= before + 50), "frames are counted after the migration")

            lost.kill()
            nodes.nodes.remove(lost)
            wait_until(answered(lambda: nodes.ask(replica, "ROLE")[0] == b"master"), "the replica is the master")
            nodes.wait_until_up()
            before = published.published
            wait_until(lambda: published.published >= before + 100, "frames are published after the failover")
        logs = [process.log for process in processes]
        # What the killed workers held is adopted, and the rest of the queue is counted.
        with workers(nodes, tmp_path, 2, "--drain", "--claim-idle", "1") as processes:
            assert [process.wait() for process in processes] == [0, 0], [process.log for process in processes]
        fields = frames.accounting()
        assert frames.balances() == [0] * PARTITIONS
        assert frames.pending() == 0
        assert fields["received"] > 200
        logs += [process.log for process in processes]
        assert [log for log in logs if "Traceback" in log] == []
        assert nodes.node_of(moving) is target


def test_a_worker_with_another_number_is_refused(nodes: Cluster, frames: PartitionedFrames, tmp_path: Path) -> None:
    """At its start, with the way out."""
    with workers(nodes, tmp_path, 1, "--drain") as (process,):
        assert process.wait() == 0
    where = types.SimpleNamespace(url=nodes.url, folder=tmp_path)
    with worker(where, "--partitions", "1") as process:  # type: ignore[arg-type]
        assert process.wait() == 1
        assert "the queue has 6 partitions, not 1: give --partitions 6" in process.log
        assert "Redis rejected" not in process.log  # it read nothing, so there is nothing that it could leave
        assert "Traceback" not in process.log


def test_the_documented_permissions_are_enough(nodes: Cluster, frames: PartitionedFrames, tmp_path: Path) -> None:
    """Those of the worker and of publishers, with what docs/redis-acl.md adds for a cluster and for partitions."""
    page = (REPOSITORY / "docs/redis-acl.md").read_text()
    for user in ("hand-counter", "hand-counter-publish"):
        (rules,) = re.findall(rf"^ACL SETUSER {user} .*$", page, re.MULTILINE)
        command = [*rules.replace("~{hand_counter}:", "~{hand_counter*}:").split(), "+cluster|slots", "+asking"]
        for node in nodes.nodes:
            nodes.ask(node, *command)
    url = nodes.url.replace("redis+cluster://", "redis+cluster://{}:SECRET@")
    with contextlib.closing(Connections(url.format("hand-counter-publish"))) as connections:
        sender = Sender(
            Destination(frames.partitions, connections.client),
            payload_ttl=60.0,
            max_queue=1000,
            backoff=Backoff(0.02, 0.05),
        )
        channels = [sender.open(f"cam{i}") for i in range(12)]
        sender.start()
        for channel in channels:
            channel.outlet.put(Captured(1000.0, frames.payload))
        wait_until(lambda: all(channel.outlet.published for channel in channels), "all are published")
        assert sender.stop(60.0)
    where = types.SimpleNamespace(url=url.format("hand-counter"), folder=tmp_path)
    with worker(where, "--partitions", str(PARTITIONS), "--drain") as process:  # type: ignore[arg-type]
        assert process.wait() == 0, process.log
    assert frames.accounting() == {"received": 12, "counted": 12}
    assert [nodes.ask(node, "ACL", "LOG") for node in nodes.nodes] == [[], [], []]
