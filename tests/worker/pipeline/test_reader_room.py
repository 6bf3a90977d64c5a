"""What the reader reads and leaves as its worker has room."""

import pytest
from support.pipelines import EveryNth, ReaderAndSettler
from support.processes.workers import (
    KEYS,
    T0,
    QueueServer,
    accounting,
    calls,
    pending,
    picture,
    publish,
    publish_many,
)
from support.waiting import wait_until

from worker.queue.consumer import Queue


def test_a_stop_doesnt_wait_for_room(valkey: QueueServer, queue: Queue) -> None:
    """If all decoding threads are busy the reader still ends at once, and what it held stays pending."""
    publish_many(valkey.bytes, 10)
    parts = ReaderAndSettler(queue, EveryNth(), threads=1, drain=False, fresh=3600.0)
    thread = parts.read()
    wait_until(lambda: len(parts.dispatcher) == 10)
    parts.end(thread)
    assert len(parts.held) == pending(valkey.bytes) == 10


def test_a_worker_leaves_new_frames_to_others_while_its_threads_are_busy(valkey: QueueServer, queue: Queue) -> None:
    """Until the newest entry that it read is older than --fresh: then no worker keeps up, and it reads on."""
    publish_many(valkey.bytes, 10)
    for fresh in (3600.0, 0.1):
        parts = ReaderAndSettler(queue, EveryNth(), threads=1, drain=False, fresh=fresh)
        thread = parts.read()
        wait_until(lambda parts=parts: len(parts.dispatcher) == 10)
        publish_many(valkey.bytes, 5, name="new")
        if fresh < 1.0:
            wait_until(lambda parts=parts: len(parts.dispatcher) == 15)
        else:
            turned_at = parts.reader.turned_at
            wait_until(lambda parts=parts, before=turned_at: parts.reader.turned_at > before)
            assert len(parts.dispatcher) == 10
        parts.end(thread)
        valkey.bytes.flushall()
        publish_many(valkey.bytes, 10)


def test_a_worker_reads_what_its_threads_want_of_a_burst(valkey: QueueServer, queue: Queue) -> None:
    """The rest is left to others; those that are denied aren't counted among what is wanted."""
    parts = ReaderAndSettler(queue, EveryNth(3), threads=2, drain=False, fresh=3600.0)
    thread = parts.read()
    wait_until(lambda: valkey.bytes.info("clients")["blocked_clients"] == 1, "it has read all that there was")
    publish_many(valkey.bytes, 100)
    wait_until(lambda: not parts.dispatcher.wanted)
    turned_at = parts.reader.turned_at
    wait_until(lambda: parts.reader.turned_at > turned_at)
    read = accounting(valkey.bytes)["received"]
    parts.end(thread)
    assert 4 <= len(parts.dispatcher) <= 8
    assert read <= 40


def test_newer_live_frames_supersede_those_that_wait(valkey: QueueServer, queue: Queue) -> None:
    """Each stream keeps its newest frame; the pictures of the others are never fetched."""
    publish_many(valkey.bytes, 30, streams=3)
    publish_many(valkey.bytes, 5, name="film", live=False)
    parts = ReaderAndSettler(queue, EveryNth(), drain=False, max_age=1e9)
    thread = parts.read()
    wait_until(lambda: accounting(valkey.bytes).get("skipped:superseded") == 27)
    parts.end(thread)
    assert len(parts.dispatcher) == pending(valkey.bytes) == 3 + 5
    assert calls(valkey.bytes, "get") == 1  # the check of the permissions
    assert accounting(valkey.bytes) == {"received": 35, "skipped:superseded": 27}


def test_a_film_is_never_stale(valkey: QueueServer, queue: Queue) -> None:
    """Neither when it is read nor when its turn comes; live frames are."""
    publish_many(valkey.bytes, 5, name="film", live=False)
    publish_many(valkey.bytes, 5)
    ReaderAndSettler(queue, EveryNth(), max_age=-1e9).run()
    assert accounting(valkey.bytes) == {"received": 10, "counted": 5, "skipped:stale": 5}


def test_nothing_more_is_read_if_nothing_is_settled(
    valkey: QueueServer, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too much held the reader leaves the rest to other workers, and continues as soon as some of it is settled."""
    monkeypatch.setattr("worker.pipeline.reader.MOST_HELD", 10)
    monkeypatch.setattr("worker.pipeline.reader.FULL_WAIT_S", 0.01)
    publish_many(valkey.bytes, 30)
    parts = ReaderAndSettler(queue, EveryNth(), threads=50, batch_size=5, drain=False)
    thread = parts.read()
    wait_until(lambda: len(parts.held) == 10)
    turned_at = parts.reader.turned_at
    wait_until(lambda: parts.reader.turned_at > turned_at)
    assert pending(valkey.bytes) == len(parts.dispatcher) == 10
    parts.held.remove(parts.held.snapshot()[:5])
    wait_until(lambda: len(parts.dispatcher) == 15)
    parts.end(thread)


def test_large_pictures_of_other_workers_are_taken_up_as_there_is_room(valkey: QueueServer, queue: Queue) -> None:
    """Each of the workers that are gone may have held as much as one may hold."""
    for number in range(12):
        valkey.bytes.xadd(KEYS.frames, {"stream_name": f"cam{number}", "ts": "1", "frame": bytes(1_000_000)})
    queue.read(12)
    parts = ReaderAndSettler(queue, EveryNth(), batch_size=2, max_bytes_in_flight=3_500_000)
    thread = parts.read()
    try:
        wait_until(lambda: len(parts.held) >= 4)
        turned_at = parts.reader.turned_at
        wait_until(lambda: parts.reader.turned_at > turned_at + 0.1)
        assert len(parts.held) == 4
        parts.held.remove(parts.held.snapshot()[:2])
        wait_until(lambda: len(parts.dispatcher) > 4)
    finally:
        parts.end(thread)


def test_large_pictures_inside_of_entries_are_read_a_few_at_a_time(valkey: QueueServer, queue: Queue) -> None:
    """No more than --max-bytes-in-flight and one picture are held, and the next ones are read as soon as some are settled."""
    for number in range(12):
        fields = {"stream_name": f"cam{number}", "ts": "1", "frame": picture() + bytes(1_000_000)}
        valkey.bytes.xadd(KEYS.frames, fields)
    parts = ReaderAndSettler(queue, EveryNth(), threads=50, drain=False, max_bytes_in_flight=3_500_000)
    thread = parts.read()
    wait_until(lambda: len(parts.held) >= 4)
    turned_at = parts.reader.turned_at
    wait_until(lambda: parts.reader.turned_at > turned_at + 0.1)
    assert len(parts.held) == 4  # the last one was begun with room for half of it
    parts.held.remove(parts.held.snapshot()[:2])
    wait_until(lambda: pending(valkey.bytes) > 4)
    parts.end(thread)
    assert parts.held.bytes < 4_500_000 + 1_000_000


def test_frames_of_unknown_streams_leave_room_for_others(valkey: QueueServer, queue: Queue) -> None:
    """Their pictures inside entries are given up while they wait, and fetched again when their limit is known."""
    for number in range(6):
        fields = {"stream_name": "unknown", "ts": str(T0 + number), "frame": bytes(1_000_000), "live": "0"}
        valkey.bytes.xadd(KEYS.frames, fields)
    publish(valkey.bytes, "known", T0)
    limiter = EveryNth()
    limiter.unknown = {"unknown"}
    parts = ReaderAndSettler(queue, limiter, threads=50, drain=False, max_bytes_in_flight=2_500_000)
    thread = parts.read()
    wait_until(lambda: len(parts.dispatcher) == 1)
    assert len(parts.held) == 7
    assert parts.held.bytes < 1_000_000
    limiter.unknown = set()
    wait_until(lambda: len(parts.dispatcher) == 7)
    parts.end(thread)
    assert [len(picture or b"") for picture in queue.inline_payloads(parts.held.snapshot()[:1])] == [1_000_000]
