"""The sender of all streams: who waits for whom, and what ends a stream."""

import pytest
import redis
from support.processes.workers import KEYS, QueueServer
from support.publishing import captured, jpeg
from support.waiting import wait_until

from process.backoff import Backoff
from worker.publish.destination import on_one_server
from worker.publish.frame_writer import FrameWriter
from worker.publish.sender import Sender
from worker.publish.source import Captured
from worker.queue.frame import parse_entry
from worker.queue.redis_client import connect


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
