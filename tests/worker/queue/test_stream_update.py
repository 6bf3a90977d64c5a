"""What is kept of each stream, in a real Valkey."""

import logging
from collections.abc import Iterator

import pytest
from support.processes.workers import KEYS, QueueServer, accounting, publish_many

from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.delivery import Counted
from worker.queue.redis_client import connect
from worker.queue.stream_update import TTL_S, StreamUpdate


@pytest.fixture
def queue(valkey: QueueServer) -> Iterator[Queue]:
    """The queue, as the consumer "me"."""
    consumer = Queue(Commands(connect(valkey.url), KEYS), "me")
    yield consumer
    consumer.close()


def kept(valkey: QueueServer, name: str = "cam0") -> dict[bytes, bytes]:
    """The hash of a stream."""
    return valkey.bytes.hgetall(KEYS.stream(name))


def test_a_stream_is_written_with_its_result(valkey: QueueServer, queue: Queue) -> None:
    """In one step: the fields, the totals, and the preview, all with a TTL."""
    publish_many(valkey.bytes, 1)
    (delivery,) = queue.read(1)
    result = Counted(delivery.entry_id, "cam0", 12.5, 2, '{"a":1}', None, 0.25, 640, 480)
    update = StreamUpdate(
        "cam0", 1000.5, received=7, admitted=2, counted=1, skipped=4, superseded=3, dead=0, preview=b"jpeg"
    )
    update.fields = {"stream_name": "cam0", **result.shown()}
    update.skips = {"too_soon": 3, "late": 1}
    assert queue.settle([result], [update]) == [True]
    assert update.totals == (7, 1)
    assert kept(valkey) == {
        b"stream_name": b"cam0",
        b"heard_at": b"1000.5",
        b"received": b"7",
        b"admitted": b"2",
        b"counted": b"1",
        b"skipped": b"4",
        b"skipped:too_soon": b"3",
        b"skipped:late": b"1",
        b"superseded": b"3",
        b"dead": b"0",
        b"ts": b"12.5",
        b"entry_id": delivery.entry_id.encode(),
        b"hand_count": b"2",
        b"width": b"640",
        b"height": b"480",
        b"age": b"0.25",
        b"result": b'{"a":1}',
    }
    assert valkey.bytes.get(KEYS.preview("cam0")) == b"jpeg"
    for key in (KEYS.stream("cam0"), KEYS.preview("cam0")):
        assert 0 < valkey.bytes.ttl(key) <= TTL_S


def test_totals_are_those_of_all_workers(valkey: QueueServer, queue: Queue) -> None:
    """The fields that an update doesn't name stay, and so does the preview."""
    queue.settle([], [StreamUpdate("cam0", 10.0, received=3, counted=1, fields={"last_skip": "late"}, preview=b"1")])
    second = StreamUpdate("cam0", 11.0, received=4, counted=2, skips={"late": 2})
    queue.settle([], [second, StreamUpdate("cam1", 11.0, skips={"late": 5}), StreamUpdate("cam2", 11.0)])
    queue.settle([], [StreamUpdate("cam0", 12.0, skips={"late": 1})])
    assert (kept(valkey)[b"skipped:late"], kept(valkey, "cam1")[b"skipped:late"]) == (b"3", b"5")
    assert kept(valkey, "cam2")[b"heard_at"] == b"11.0"
    assert second.totals == (7, 3)
    assert kept(valkey)[b"last_skip"] == b"late"
    assert valkey.bytes.get(KEYS.preview("cam0")) == b"1"


def test_silence_of_one_worker_is_no_silence_of_the_stream(valkey: QueueServer, queue: Queue) -> None:
    """If another one has heard it since."""
    queue.settle([], [StreamUpdate("cam0", 20.0, received=1, fields={"source_fps": 15})])
    older = StreamUpdate("cam0", 19.0, silent=True, fields={"source_fps": 0})
    queue.settle([], [older])
    assert (older.totals, kept(valkey)[b"source_fps"]) == (None, b"15")
    newest = StreamUpdate("cam0", 20.0, silent=True, fields={"source_fps": 0})
    queue.settle([], [newest])
    assert (newest.totals, kept(valkey)[b"source_fps"]) == ((1, 0), b"0")


@pytest.mark.parametrize("obstacle", ["permission", "type", "counter"])
def test_a_stream_that_cannot_be_written_costs_no_result(
    valkey: QueueServer, obstacle: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor the streams after it; it is logged once."""
    valkey.bytes.execute_command("ACL SETUSER", "limited", "on", ">SECRET", "~*", "+@all")
    if obstacle == "permission":
        valkey.bytes.execute_command("ACL SETUSER", "limited", "-expire")
    elif obstacle == "type":
        valkey.bytes.set(KEYS.stream("cam0"), "in the way")
    else:
        valkey.bytes.hset(KEYS.stream("cam0"), "skipped", "many")
    publish_many(valkey.bytes, 2)
    queue = Queue(Commands(connect(valkey.url.replace("redis://", "redis://limited:SECRET@")), KEYS), "me")
    for delivery in queue.read(2):
        updates = [StreamUpdate("cam0", 1.0, counted=1), StreamUpdate("cam1", 1.0, counted=1)]
        assert queue.settle([Counted(delivery.entry_id, "cam0", 1.0, 0, "{}")], updates) == [True]
        assert updates[0].totals is None
    queue.close()
    valkey.bytes.execute_command("ACL DELUSER", "limited")
    assert accounting(valkey.bytes) == {"received": 2, "counted": 2}
    assert (kept(valkey, "cam1").get(b"counted") == b"2") is True
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].levelno == logging.WARNING
