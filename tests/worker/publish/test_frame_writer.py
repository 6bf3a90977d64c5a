"""What a frame becomes in the queue, and how the queue's room is shared."""

import threading

import pytest
from support.frame_queue import entries, frame_queue
from support.processes.workers import KEYS, QueueServer
from support.publishing import captured, jpeg
from support.waiting import wait_until

from worker.publish.frame_writer import FULL, FrameWriter, StreamFrames
from worker.publish.source import Captured
from worker.queue.frame import parse_entry
from worker.queue.redis_client import connect


def test_a_frame_becomes_an_entry_and_a_picture(valkey: QueueServer) -> None:
    """The worker can read the entry; the picture has its own key, which will expire."""
    with connect(valkey.url) as client:
        assert frame_queue(client, "cäm 1").publish(Captured(1_700_000_000.123456, jpeg(7)))
    ((entry_id, fields),) = valkey.bytes.xrange(KEYS.frames)
    frame = parse_entry(entry_id.decode(), fields)
    assert (frame.stream_name, frame.ts) == ("cäm 1", 1_700_000_000.123456)
    assert valkey.bytes.get(frame.frame_key) == jpeg(7)
    assert 50_000 < valkey.bytes.pttl(frame.frame_key) <= 60_000


def test_an_entry_says_when_it_was_queued(valkey: QueueServer) -> None:
    """By Redis' clock, also behind an id in the future; without the permission it says nothing."""
    valkey.bytes.xadd(KEYS.frames, {"a": "b"}, id="99999999999999-0")
    valkey.bytes.execute_command("ACL SETUSER", "limited", "on", ">SECRET", "~*", "+@all", "-time")
    before = valkey.bytes.time()
    for url in (valkey.url, valkey.url.replace("redis://", "redis://limited:SECRET@")):
        with connect(url) as client:
            assert frame_queue(client).publish(captured(1))
    after = valkey.bytes.time()
    _, (_, timed), (_, untimed) = valkey.bytes.xrange(KEYS.frames)
    seconds, micros = map(int, timed[b"queued_at"].split(b"."))
    assert before <= (seconds, micros) <= after
    assert b"queued_at" not in untimed
    valkey.bytes.execute_command("ACL DELUSER", "limited")


def test_two_publishers_of_one_stream_do_not_collide(valkey: QueueServer) -> None:
    """Pictures of two publishers have different keys, though both number their frames from one."""
    with connect(valkey.url) as client:
        frame_queue(client).publish(captured(1))
        frame_queue(client).publish(captured(2))
    assert entries(valkey) == [(1.0, jpeg(1)), (2.0, jpeg(2))]


def test_the_queue_is_capped(valkey: QueueServer) -> None:
    """The queue keeps about as many entries as its cap allows, the newest ones."""
    with connect(valkey.url) as client:
        queue = frame_queue(client, max_queue=100)
        for index in range(400):
            queue.publish(Captured(float(index), b"x"))
    assert 100 <= valkey.bytes.xlen(KEYS.frames) <= 250
    assert entries(valkey)[-1][0] == 399.0
    assert queue.pushed_out == 400 - valkey.bytes.xlen(KEYS.frames)


GROUP = "workers"


def read(valkey: QueueServer, count: int) -> list[bytes]:
    """Reads entries as a worker does; returns their ids."""
    ((_, rows),) = valkey.bytes.xreadgroup(GROUP, "worker", {KEYS.frames: ">"}, count=count)
    return [entry_id for entry_id, _ in rows]


@pytest.mark.parametrize("read_before", [0, 130, 310])
def test_frames_of_a_live_source_push_out_the_oldest(valkey: QueueServer, read_before: int) -> None:
    """Those that no worker had read are counted, exactly; those that a worker had read aren't lost."""
    with connect(valkey.url) as client:
        queue = frame_queue(client, max_queue=100)
        valkey.bytes.xgroup_create(KEYS.frames, GROUP, "0", mkstream=True)
        for index in range(400):
            queue.publish(Captured(float(index), b"x"))
            if index < read_before:
                valkey.bytes.xack(KEYS.frames, GROUP, *read(valkey, 1))
    unread = 0
    while rows := valkey.bytes.xreadgroup(GROUP, "worker", {KEYS.frames: ">"}, count=1000):
        unread += len(rows[0][1])
    assert queue.pushed_out == 400 - read_before - unread


def test_a_source_that_can_wait_loses_nothing(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """With the queue full of entries that are unread or not settled, it waits; settled ones give room."""
    published: list[int] = []
    valkey.bytes.xgroup_create(KEYS.frames, GROUP, "0", mkstream=True)
    with connect(valkey.url) as client:
        queue = frame_queue(client, max_queue=100, waits=True)

        def publish() -> None:
            for index in range(300):
                assert queue.publish(Captured(float(index), b"x"))
                published.append(index)

        thread = threading.Thread(target=publish)
        thread.start()
        seen: list[bytes] = []
        for step in range(3):
            wait_until(lambda step=step: len(published) == 100 * (step + 1))
            ids = read(valkey, 100)
            seen += ids
            assert len(published) == 100 * (step + 1)  # entries that were only read still need their place
            valkey.bytes.xack(KEYS.frames, GROUP, *ids)
        thread.join()
    assert len(set(seen)) == 300
    assert queue.pushed_out == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_frame_that_may_wait_says_so(valkey: QueueServer) -> None:
    """Its picture stays until a worker counts it; a live frame says nothing."""
    with connect(valkey.url) as client:
        for live in (True, False):
            assert frame_queue(client, waits=True, live=live).publish(captured(1))
    frames = [parse_entry(entry_id.decode(), fields) for entry_id, fields in valkey.bytes.xrange(KEYS.frames)]
    assert [frame.live for frame in frames] == [True, False]
    assert b"live" not in valkey.bytes.xrange(KEYS.frames)[0][1]
    assert [valkey.bytes.ttl(frame.frame_key) > 3600 for frame in frames] == [False, True]


def test_frames_that_may_wait_leave_room_to_others(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait long before the queue is full, whoever's entries aren't settled; a live film doesn't."""
    monkeypatch.setattr("worker.publish.frame_writer.FILM_ROOM", 10)
    valkey.bytes.xgroup_create(KEYS.frames, GROUP, "0", mkstream=True)
    with connect(valkey.url) as client:
        writer = FrameWriter()
        film, live_film = (
            StreamFrames(client, KEYS, "cam1", payload_ttl=60, max_queue=1000, waits=True, live=live)
            for live in (False, True)
        )

        def written(stream: StreamFrames) -> bool:
            (reply,) = writer.write([stream.next(captured(1))])
            return reply != FULL

        assert [written(film) for _ in range(12)] == [True] * 10 + [False] * 2
        assert written(live_film)
        ids = read(valkey, 3)
        assert not written(film)
        valkey.bytes.xack(KEYS.frames, GROUP, *ids)
        assert [written(film) for _ in range(3)] == [True] * 2 + [False]
