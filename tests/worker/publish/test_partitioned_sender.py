"""Publishing to the partitions of a real cluster."""

import contextlib
from collections.abc import Iterator

import pytest
from support.partitioned import PartitionedFrames
from support.redis.topologies import Cluster, cluster
from support.waiting import wait_until

from process.backoff import Backoff
from worker.publish.camera_status import CameraState, CameraStatus
from worker.publish.destination import Destination
from worker.publish.sender import Channel, Sender
from worker.publish.source import Captured
from worker.publish.status_writer import StatusWriter
from worker.queue.partition_number import PartitionsError

STREAMS = [f"cam{i}" for i in range(12)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster for all tests of the module."""
    with cluster() as running:
        yield running


@pytest.fixture
def frames(nodes: Cluster) -> Iterator[PartitionedFrames]:
    """An empty queue of six partitions."""
    for node in nodes.nodes:
        nodes.ask(node, "FLUSHALL")
    with contextlib.closing(PartitionedFrames(nodes.url, 6)) as opened:
        yield opened


@contextlib.contextmanager
def sending(frames: PartitionedFrames) -> Iterator[dict[str, Channel]]:
    """Runs a sender; yields the way of each stream's frames."""
    destination = Destination(frames.partitions, frames.connections.client)
    sender = Sender(destination, payload_ttl=60.0, max_queue=6000, backoff=Backoff(0.02, 0.05))
    channels = {name: sender.open(name) for name in STREAMS}
    sender.start()
    try:
        yield channels
    finally:
        assert sender.stop(60.0)


def test_each_frame_goes_to_its_stream_s_partition(frames: PartitionedFrames) -> None:
    """With its picture, once, whichever node that is on; and the first publisher notes how many partitions there are."""
    with sending(frames) as channels:
        for number in range(20):
            for channel in channels.values():
                channel.outlet.put(Captured(1000.0 + number, b"picture %d" % number))
        wait_until(lambda: all(channel.outlet.published == 20 for channel in channels.values()), "all are published")
    assert frames.connections.client(frames.partitions.number_key).get(frames.partitions.number_key) == b"6"
    for name in STREAMS:
        keys = frames.partitions.keys_of(name)
        client = frames.client(keys)
        entries = [fields for _, fields in client.xrange(keys.frames) if fields[b"stream_name"] == name.encode()]
        assert [float(fields[b"ts"]) for fields in entries] == [1000.0 + number for number in range(20)]
        assert client.get(entries[7][b"frame_key"]) == b"picture 7"


def test_a_node_that_hands_a_partition_over_loses_no_frame(frames: PartitionedFrames, nodes: Cluster) -> None:
    """Frames wait while the slot moves, and go to its new node then; other partitions' frames don't wait."""
    name = STREAMS[0]
    key = frames.partitions.keys_of(name).frames.encode()
    other = next(each for each in STREAMS if frames.partitions.of(each) != frames.partitions.of(name))
    with sending(frames) as channels:
        channels[name].outlet.put(Captured(1.0, b"1"))
        wait_until(lambda: channels[name].outlet.published == 1)
        source = nodes.node_of(key)
        target = nodes.other_than(source)
        nodes.begin_move(key, target)
        channels[name].outlet.put(Captured(2.0, b"2"))
        channels[other].outlet.put(Captured(2.0, b"2"))
        wait_until(lambda: channels[other].outlet.published == 1, "the other partition isn't held up")
        nodes.end_move(key, source, target)
        wait_until(lambda: channels[name].outlet.published == 2, "the frame has arrived at the new node")
    keys = frames.partitions.keys_of(name)
    stored = [
        fields[b"ts"]
        for _, fields in frames.client(keys).xrange(keys.frames)
        if fields[b"stream_name"] == name.encode()
    ]
    assert stored == [b"1.0", b"2.0"]


def test_another_number_of_partitions_ends_the_sender(frames: PartitionedFrames) -> None:
    """Frames would go where nobody reads them."""
    frames.connections.client(frames.partitions.number_key).set(frames.partitions.number_key, 4)
    with sending(frames) as channels:
        for channel in channels.values():
            channel.outlet.put(Captured(1.0, b"1"))
        wait_until(lambda: all(channel.error for channel in channels.values()))
        assert {type(channel.error) for channel in channels.values()} == {PartitionsError}
    assert all(not frames.client(keys).exists(keys.frames) for keys in frames.partitions)


def test_the_states_of_cameras_are_beside_their_streams(frames: PartitionedFrames) -> None:
    """In the partition of each."""
    statuses = {name: CameraStatus(state=CameraState.WORKING, since=1.0, source=name) for name in STREAMS}
    writer = StatusWriter(Destination(frames.partitions, frames.connections.client), lambda: statuses)
    writer.start()
    assert writer.stop(60.0)
    for name in STREAMS:
        keys = frames.partitions.keys_of(name)
        assert frames.client(keys).hget(keys.camera(name), "state") == b"working"
        assert 0 < frames.client(keys).ttl(keys.camera(name)) <= 60
