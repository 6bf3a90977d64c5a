import logging
import threading

import pytest
import redis
from support.processes.workers import KEYS, QueueServer
from support.publishing import captured, jpeg
from support.waiting import wait_until

from process.backoff import Backoff
from worker.publish.frame_queue import FrameQueue
from worker.publish.source import Captured
from worker.queue.frame import parse_entry
from worker.queue.redis_client import TcpConnection, connect

NEVER = threading.Event()


def frame_queue(
    client: redis.Redis, stream_name: str = "cam1", max_queue: int = 1000, waits: bool = False, live: bool = True
) -> FrameQueue:
    """Returns a queue that retries soon."""
    return FrameQueue(
        client,
        KEYS,
        stream_name,
        payload_ttl=60,
        max_queue=max_queue,
        backoff=Backoff(first_s=0.02, longest_s=0.05),
        waits=waits,
        live=live,
    )


def entries(valkey: QueueServer) -> list[tuple[float, bytes]]:
    """Returns the ts and the picture of each entry."""
    rows = []
    for entry_id, fields in valkey.bytes.xrange(KEYS.frames):
        frame = parse_entry(entry_id.decode(), fields)
        rows.append((frame.ts, valkey.bytes.get(frame.frame_key)))
    return rows


def test_a_frame_becomes_an_entry_and_a_picture(valkey: QueueServer) -> None:
    """The worker can read the entry; the picture has its own key, which will expire."""
    with connect(valkey.url) as client:
        assert frame_queue(client, "cäm 1").publish(Captured(1_700_000_000.123456, jpeg(7)), NEVER)
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
            assert frame_queue(client).publish(captured(1), NEVER)
    after = valkey.bytes.time()
    _, (_, timed), (_, untimed) = valkey.bytes.xrange(KEYS.frames)
    seconds, micros = map(int, timed[b"queued_at"].split(b"."))
    assert before <= (seconds, micros) <= after
    assert b"queued_at" not in untimed
    valkey.bytes.execute_command("ACL DELUSER", "limited")


def test_two_publishers_of_one_stream_do_not_collide(valkey: QueueServer) -> None:
    """Pictures of two publishers have different keys, though both number their frames from one."""
    with connect(valkey.url) as client:
        frame_queue(client).publish(captured(1), NEVER)
        frame_queue(client).publish(captured(2), NEVER)
    assert entries(valkey) == [(1.0, jpeg(1)), (2.0, jpeg(2))]


def test_the_queue_is_capped(valkey: QueueServer) -> None:
    """The queue keeps about as many entries as its cap allows, the newest ones."""
    with connect(valkey.url) as client:
        queue = frame_queue(client, max_queue=100)
        for index in range(400):
            queue.publish(Captured(float(index), b"x"), NEVER)
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
            queue.publish(Captured(float(index), b"x"), NEVER)
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
                assert queue.publish(Captured(float(index), b"x"), NEVER)
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
            assert frame_queue(client, waits=True, live=live).publish(captured(1), NEVER)
    frames = [parse_entry(entry_id.decode(), fields) for entry_id, fields in valkey.bytes.xrange(KEYS.frames)]
    assert [frame.live for frame in frames] == [True, False]
    assert b"live" not in valkey.bytes.xrange(KEYS.frames)[0][1]
    assert [valkey.bytes.ttl(frame.frame_key) > 3600 for frame in frames] == [False, True]


def test_frames_that_may_wait_leave_room_to_others(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait long before the queue is full, whoever's entries aren't settled; a live film doesn't."""
    monkeypatch.setattr("worker.publish.frame_queue.FILM_ROOM", 10)
    cancelled = threading.Event()
    cancelled.set()
    valkey.bytes.xgroup_create(KEYS.frames, GROUP, "0", mkstream=True)
    with connect(valkey.url) as client:
        queue, other = frame_queue(client, waits=True, live=False), frame_queue(client, waits=True)
        assert [queue.publish(captured(1), cancelled) for _ in range(12)] == [True] * 10 + [False] * 2
        assert other.publish(captured(1), cancelled)
        ids = read(valkey, 3)
        assert not queue.publish(captured(1), cancelled)
        valkey.bytes.xack(KEYS.frames, GROUP, *ids)
        assert [queue.publish(captured(1), cancelled) for _ in range(3)] == [True] * 2 + [False]


def test_waiting_for_room_can_be_cancelled(valkey: QueueServer) -> None:
    """A stop ends the wait; the frame isn't published."""
    cancelled = threading.Event()
    cancelled.set()
    with connect(valkey.url) as client:
        queue = frame_queue(client, max_queue=1, waits=True)
        assert queue.publish(captured(1), NEVER)
        assert not queue.publish(captured(2), cancelled)
    assert len(entries(valkey)) == 1


class LostReplies(TcpConnection):
    """A connection that loses replies to scripts after the server has run them, as a broken network would."""

    lost = 0

    def read_response(self, *args: object, **options: object) -> object:
        reply = super().read_response(*args, **options)
        if reply == 1 and LostReplies.lost < 3:
            LostReplies.lost += 1
            self.disconnect()
            raise redis.ConnectionError("lost")
        return reply


def test_a_lost_reply_causes_no_second_entry(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """A frame whose reply is lost is published again without a second entry; loss and recovery are logged once each."""
    with connect(valkey.url) as client, caplog.at_level(logging.INFO):
        client.connection_pool.connection_class = LostReplies
        queue = frame_queue(client)
        assert all(queue.publish(captured(index), NEVER) for index in range(5))
    assert LostReplies.lost == 3
    assert entries(valkey) == [(float(index), jpeg(index)) for index in range(5)]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 3


def test_a_lost_reply_causes_no_second_entry_although_a_worker_was_faster(valkey: QueueServer) -> None:
    """It has settled the frame and deleted its picture before the publisher repeats it."""

    class SettledMeanwhile(TcpConnection):
        """A connection that loses each reply once; the frame is settled before the repetition."""

        lost = 0

        def read_response(self, *args: object, **options: object) -> object:
            reply = super().read_response(*args, **options)
            if reply == 1:
                SettledMeanwhile.lost += 1
                for _, fields in valkey.bytes.xrange(KEYS.frames):
                    valkey.bytes.unlink(fields[b"frame_key"])
                self.disconnect()
                raise redis.ConnectionError("lost")
            return reply

    with connect(valkey.url) as client:
        client.connection_pool.connection_class = SettledMeanwhile
        queue = frame_queue(client)
        assert all(queue.publish(captured(index), NEVER) for index in range(3))
    assert SettledMeanwhile.lost == 3
    assert entries(valkey) == [(0.0, None), (1.0, None), (2.0, None)]


def test_nothing_is_lost_while_redis_is_killed_and_started_again(
    valkey: QueueServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing is retried until Redis works again, and logged once."""
    with connect(valkey.url) as client, caplog.at_level(logging.INFO):
        queue = frame_queue(client)
        assert queue.publish(captured(1), NEVER)
        valkey.kill()
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(2), NEVER)))
        thread.start()
        wait_until(lambda: caplog.records)
        valkey.restart()
        thread.join()
    assert done == [True]
    assert entries(valkey)[-1] == (2.0, jpeg(2))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_rejection_is_retried_too(valkey: QueueServer) -> None:
    """A key of the wrong type leaves no picture behind; the frame is published once the key is deleted."""
    valkey.bytes.set(KEYS.frames, "not a queue")
    with connect(valkey.url) as client:
        queue, done = frame_queue(client), []
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(1), NEVER)))
        thread.start()
        wait_until(lambda: valkey.bytes.info("commandstats").get("cmdstat_xlen", {}).get("failed_calls", 0) >= 2)
        assert valkey.bytes.keys(KEYS.payload("*")) == []
        valkey.bytes.delete(KEYS.frames)
        thread.join()
    assert done == [True]
    assert entries(valkey) == [(1.0, jpeg(1))]


def refused(valkey: QueueServer, times: int) -> bool:
    """Whether this many XADDs were refused."""
    stats = valkey.bytes.info("commandstats").get("cmdstat_xadd", {})
    return stats.get("rejected_calls", 0) + stats.get("failed_calls", 0) >= times


@pytest.mark.parametrize("refusal", ["permission", "no ids left"])
def test_a_frame_whose_entry_is_refused_is_not_published(
    valkey: QueueServer, caplog: pytest.LogCaptureFixture, refusal: str
) -> None:
    """Its picture doesn't stay either; a repetition publishes both, once Redis accepts the entry."""
    valkey.bytes.execute_command("ACL SETUSER", "limited", "on", ">SECRET", "~*", "+@all")
    if refusal == "permission":
        valkey.bytes.execute_command("ACL SETUSER", "limited", "-xadd")
    else:
        valkey.bytes.xadd(KEYS.frames, {"a": "b"}, id="18446744073709551615-18446744073709551615")
    with connect(valkey.url.replace("redis://", "redis://limited:SECRET@")) as client, caplog.at_level(logging.ERROR):
        queue, done = frame_queue(client), []
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(1), NEVER)))
        thread.start()
        wait_until(lambda: refused(valkey, 4))
        assert done == []
        wait_until(lambda: valkey.bytes.keys(KEYS.payload("*")) == [])
        if refusal == "permission":
            assert valkey.bytes.xlen(KEYS.frames) == 0
            assert [record.missing for record in caplog.records] == ["+xadd"]
            valkey.bytes.execute_command("ACL SETUSER", "limited", "+xadd")
        else:
            valkey.bytes.delete(KEYS.frames)
        thread.join()
    assert done == [True]
    assert entries(valkey) == [(1.0, jpeg(1))]
    valkey.bytes.execute_command("ACL DELUSER", "limited")


def test_it_can_be_cancelled(valkey: QueueServer) -> None:
    """Publishing that is cancelled while Redis is unreachable returns False."""
    valkey.pause()
    cancelled = threading.Event()
    try:
        with redis.Redis(port=valkey.port, socket_timeout=0.05, retry=None) as client:
            cancelled.set()
            assert not frame_queue(client).publish(captured(1), cancelled)
    finally:
        valkey.resume()
