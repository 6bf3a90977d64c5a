import logging
import threading

import pytest
import redis
from support.frame_queue import FrameQueue
from support.processes.workers import KEYS, QueueServer
from support.publishing import captured, jpeg
from support.waiting import wait_until

from process.backoff import Backoff
from worker.publish.destination import on_one_server
from worker.publish.frame_writer import FULL, FrameWriter, StreamFrames
from worker.publish.sender import Sender
from worker.publish.source import Captured
from worker.queue.frame import parse_entry
from worker.queue.redis_client import TcpConnection, connect


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


def sender_of(client: redis.Redis, **options: object) -> Sender:
    """Returns a sender that retries soon."""
    backoff = Backoff(first_s=0.02, longest_s=0.05)
    return Sender(
        on_one_server(client, KEYS), **{"payload_ttl": 60.0, "max_queue": 1000, "backoff": backoff, **options}
    )


def test_a_film_that_waits_for_room_holds_up_nobody(valkey: QueueServer) -> None:
    """A camera's frames are published meanwhile; a stop discards the film's, and ends its wait."""
    with connect(valkey.url) as client:
        sender = sender_of(client, max_queue=1)
        film, camera = sender.open("film"), sender.open("camera")
        film.begin(live=True, waits=True)
        camera.begin(live=True, waits=False)
        sender.start()
        for index in range(3):
            film.outlet.put(captured(index))
        wait_until(lambda: film.outlet.published == 1)
        for index in range(3):
            camera.outlet.put(captured(index))
        wait_until(lambda: camera.outlet.published == 3)
        film.outlet.close(discard=True)
        wait_until(film.outlet.done.is_set)
        assert (film.outlet.published, film.outlet.dropped) == (1, 2)
        assert sender.stop(10.0)


def test_who_asks_is_told_what_was_published(valkey: QueueServer) -> None:
    """Each frame once, and none that was discarded."""
    told: list[tuple[str, float]] = []
    with connect(valkey.url) as client:
        sender = sender_of(client, on_published=lambda name, frame: told.append((name, frame.ts)))
        outlet = sender.open("cam1", most=2).outlet
        for index in range(4):
            outlet.put(captured(index))
        sender.start()
        wait_until(outlet.done.is_set)
        assert sender.stop(10.0)
    assert told == [("cam1", 0.0), ("cam1", 1.0)]


def test_one_round_trip_has_frames_of_many_streams(valkey: QueueServer) -> None:
    """What waits while Redis is away comes in few round trips; each stream's frames stay in order."""
    with connect(valkey.url) as client:
        sender = sender_of(client)
        channels = [sender.open(f"cam{number}") for number in range(40)]
        for index in range(3):
            for channel in channels:
                channel.outlet.put(captured(index))
        before = valkey.bytes.info("stats")["total_reads_processed"]
        sender.start()
        for channel in channels:
            channel.outlet.close()
        wait_until(lambda: all(channel.outlet.done.is_set() for channel in channels))
        assert valkey.bytes.info("stats")["total_reads_processed"] - before < 40
        assert sender.stop(10.0)
    by_stream: dict[str, list[float]] = {}
    for entry_id, fields in valkey.bytes.xrange(KEYS.frames):
        frame = parse_entry(entry_id.decode(), fields)
        by_stream.setdefault(frame.stream_name, []).append(frame.ts)
    assert by_stream == {f"cam{number}": [0.0, 1.0, 2.0] for number in range(40)}


def test_a_refused_frame_holds_up_nobody(valkey: QueueServer) -> None:
    """If Redis refuses one stream's frame, those of others are published."""
    with connect(valkey.url) as client:
        sender = sender_of(client)
        broken, sound = sender.open("broken"), sender.open("sound")
        key = broken.frames.next(captured(0)).keys[2]
        valkey.bytes.hset(key, "not", "a number")
        broken.outlet.put(captured(1))
        sound.outlet.put(captured(1))
        sender.start()
        wait_until(lambda: sound.outlet.published == 1)
        sound.outlet.put(captured(2))
        wait_until(lambda: sound.outlet.published == 2)
        assert broken.outlet.published == 0
        valkey.bytes.delete(key)
        wait_until(lambda: broken.outlet.published == 1)
        assert sender.stop(10.0)


def test_a_frame_that_no_queue_takes_ends_its_stream(valkey: QueueServer, caplog: pytest.LogCaptureFixture) -> None:
    """An invalid capture time is an error of the stream, and no other one notices."""
    with connect(valkey.url) as client:
        sender = sender_of(client)
        broken, sound = sender.open("broken"), sender.open("sound")
        sender.start()
        broken.outlet.put(Captured(-1.0, jpeg()))
        sound.outlet.put(captured(1))
        wait_until(broken.outlet.done.is_set)
        wait_until(lambda: sound.outlet.published == 1)
        assert isinstance(broken.error, ValueError)
        assert not broken.outlet.put(captured(1))
        assert sender.stop(10.0)
    assert caplog.messages == ["a frame can't be published"]


def test_a_defect_ends_all_streams(valkey: QueueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of leaving them waiting."""
    monkeypatch.setattr(FrameWriter, "write", lambda *_: 1 / 0)
    with connect(valkey.url) as client:
        sender = sender_of(client)
        channels = [sender.open(name) for name in ("a", "b")]
        sender.start()
        channels[0].outlet.put(captured(1))
        for channel in channels:
            wait_until(channel.outlet.done.is_set)
            assert isinstance(channel.error, ZeroDivisionError)
        assert isinstance(sender.failed, ZeroDivisionError)


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
        assert all(queue.publish(captured(index)) for index in range(5))
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
        assert all(queue.publish(captured(index)) for index in range(3))
    assert SettledMeanwhile.lost == 3
    assert entries(valkey) == [(0.0, None), (1.0, None), (2.0, None)]


def test_nothing_is_lost_while_redis_is_killed_and_started_again(
    valkey: QueueServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing is retried until Redis works again, and logged once."""
    with connect(valkey.url) as client, caplog.at_level(logging.INFO):
        queue = frame_queue(client)
        assert queue.publish(captured(1))
        valkey.kill()
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(2))))
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
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(1))))
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
        thread = threading.Thread(target=lambda: done.append(queue.publish(captured(1))))
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


def test_a_stop_while_redis_does_not_answer(valkey: QueueServer) -> None:
    """It ends the stream at once; the thread ends when the answer's time is up."""
    valkey.pause()
    try:
        with redis.Redis(port=valkey.port, socket_timeout=0.05, retry=None) as client:
            sender = sender_of(client)
            outlet = sender.open("cam1").outlet
            sender.start()
            outlet.put(captured(1))
            wait_until(lambda: outlet.sending)
            outlet.close(discard=True)
            wait_until(outlet.done.is_set)
            assert (outlet.published, outlet.dropped) == (0, 1)
            assert sender.stop(10.0)
    finally:
        valkey.resume()
