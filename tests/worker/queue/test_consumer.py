"""What the worker says to Redis, against a real Valkey."""

import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from support.processes.workers import KEYS, QueueServer, accounting, balance, pending, publish_many
from support.waiting import wait_until

from worker.queue.consumer import Queue, QueueAwayError
from worker.queue.delivery import DEAD_FIELD_BYTES, DEAD_FIELDS, Delivery, counted, dead
from worker.queue.frame import DeadReason, SkipReason
from worker.queue.keys import CONSUMER_GROUP
from worker.queue.redis_client import connect


@pytest.fixture
def queue(valkey: QueueServer) -> Iterator[Queue]:
    """The queue, as the consumer "me"."""
    consumer = Queue(connect(valkey.url), KEYS, "me")
    yield consumer
    consumer.close()


@pytest.fixture
def other(valkey: QueueServer) -> Iterator[Queue]:
    """The same queue, as the consumer "other"."""
    consumer = Queue(connect(valkey.url), KEYS, "other")
    yield consumer
    consumer.close()


def ids(deliveries: list[Delivery]) -> list[str]:
    """The ids."""
    return [delivery.entry_id for delivery in deliveries]


def test_entries_are_received_once(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """Two consumers share the queue; each entry is counted as received when it is delivered."""
    publish_many(valkey.bytes, 10)
    mine, others = queue.read(6), other.read(100)
    assert (len(mine), len(others)) == (6, 4)
    assert not set(ids(mine)) & set(ids(others))
    assert mine[0].fields[b"stream_name"] == b"cam0"
    assert [delivery.times_delivered for delivery in mine] == [1] * 6
    assert queue.read(100) == []
    assert accounting(valkey.bytes) == {"received": 10}


def test_each_ending_is_counted_and_written_once(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """However often it is repeated, and by whomever: the first wins."""
    publish_many(valkey.bytes, 4)
    first, second, third, fourth = queue.read(10)
    endings = [
        counted(first.entry_id, "cam0", 1.0, '{"by": "me"}', 1),
        dead(second, DeadReason.UNDECODABLE, "no picture"),
    ]
    skips = {SkipReason.TOO_SOON: [third.entry_id], SkipReason.STALE: [fourth.entry_id, first.entry_id]}
    assert queue.settle(endings) == [True, True]
    assert queue.skip(skips) == {SkipReason.TOO_SOON: 1, SkipReason.STALE: 1}
    for again in (queue, other):
        assert again.settle(endings) == [False, False]
        assert again.skip(skips) == {SkipReason.TOO_SOON: 0, SkipReason.STALE: 0}
    assert accounting(valkey.bytes) == {
        "received": 4,
        "counted": 1,
        "dead:undecodable": 1,
        "skipped:too_soon": 1,
        "skipped:stale": 1,
    }
    assert balance(valkey.bytes) == pending(valkey.bytes) == 0
    ((_, result),) = valkey.bytes.xrange(KEYS.counts)
    assert result == {b"stream_name": b"cam0", b"ts": b"1.0", b"result": b'{"by": "me"}'}
    ((_, letter),) = valkey.bytes.xrange(KEYS.dead)
    assert letter[b"entry_id"] == second.entry_id.encode()
    assert letter[b"field:stream_name"] == b"cam0"


def test_a_result_is_not_acknowledged_where_it_cannot_be_written(valkey: QueueServer, queue: Queue) -> None:
    """A key of another type in the way: nothing is changed, and it goes on when that is gone."""
    publish_many(valkey.bytes, 1)
    (delivery,) = queue.read(1)
    ending = counted(delivery.entry_id, "cam0", 1.0, "{}", 0)
    for key in (KEYS.counts, KEYS.dead):
        valkey.bytes.set(key, "in the way")
        with pytest.raises(QueueAwayError, match="WRONGTYPE"):
            queue.settle([ending])
        assert balance(valkey.bytes) == pending(valkey.bytes) == 1
        valkey.bytes.delete(key)
    assert queue.settle([ending]) == [True]


def test_all_lengths_are_capped(valkey: QueueServer) -> None:
    """Results and dead letters are trimmed to about what was set."""
    queue = Queue(connect(valkey.url), KEYS, "me", counts_maxlen=100, dead_maxlen=50)
    publish_many(valkey.bytes, 2000)
    deliveries = queue.read(2000)
    queue.settle([counted(each.entry_id, "cam0", 1.0, "{}", 0) for each in deliveries[:1000]])
    queue.settle([dead(each, DeadReason.FAILED, "no") for each in deliveries[1000:]])
    assert 100 <= valkey.bytes.xlen(KEYS.counts) < 300
    assert 50 <= valkey.bytes.xlen(KEYS.dead) < 250
    queue.close()


def test_a_dead_letter_is_bounded() -> None:
    """Of a huge entry it keeps enough to see what was wrong."""
    delivery = Delivery("1-1", {b"%d" % i * 5000: b"x" * 1_000_000 for i in range(100)}, 1)
    ending = dead(delivery, DeadReason.BAD_TS, "m" * 1_000_000 + "\ud800")
    assert len(ending.words) == 6 + 2 * DEAD_FIELDS
    assert max(len(word) for word in ending.words) <= 2000
    assert len(ending.words[-1]) == DEAD_FIELD_BYTES


def test_what_was_held_before_is_taken_up_again(valkey: QueueServer, queue: Queue) -> None:
    """It is listed with the times it was delivered, and taking it counts as a delivery, not as received."""
    publish_many(valkey.bytes, 3)
    first, second, third = ids(queue.read(3))
    assert queue.unsettled() == {first: 1, second: 1, third: 1}
    (again,) = queue.take([second])
    assert (again.entry_id, again.times_delivered, again.fields[b"stream_name"]) == (second, 2, b"cam0")
    assert queue.unsettled() == {first: 1, second: 2, third: 1}
    queue.skip({SkipReason.STALE: [second]})
    assert queue.take([second]) == []
    assert accounting(valkey.bytes) == {"received": 3, "skipped:stale": 1}


def test_adoption_leaves_the_living_alone(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """Only what shows no sign of life changes hands; being adopted isn't being delivered."""
    publish_many(valkey.bytes, 2)
    (kept,), (left,) = ids(other.read(1)), ids(other.read(1))
    an_hour_ms = 3_600_000
    valkey.bytes.xclaim(KEYS.frames, CONSUMER_GROUP, "other", 0, [kept, left], idle=an_hour_ms, justid=True)
    other.keep([kept])
    assert queue.adopt(1800.0) == 1
    assert queue.unsettled() == {left: 1}
    assert other.unsettled() == {kept: 1}
    assert other.take([left]) == []


def test_what_is_given_up_is_adopted_at_once(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """A stop isn't a crash: the delivery doesn't count."""
    publish_many(valkey.bytes, 1)
    (entry_id,) = ids(other.read(1))
    other.give_up([entry_id])
    assert queue.adopt(3600.0) == 1
    assert [delivery.times_delivered for delivery in queue.take([entry_id])] == [1]


@pytest.mark.parametrize("by", ["take", "adopt"])
def test_what_the_queue_dropped_is_dead(valkey: QueueServer, queue: Queue, other: Queue, by: str) -> None:
    """A held entry that was trimmed away ends as dead, by its holder or by another; a sign of life changes nothing."""
    publish_many(valkey.bytes, 3)
    dropped, *_ = entry_ids = ids(other.read(3))
    valkey.bytes.xtrim(KEYS.frames, maxlen=2, approximate=False)
    other.keep(entry_ids)
    assert pending(valkey.bytes) == 3
    if by == "take":
        assert ids(other.take(entry_ids)) == entry_ids[1:]
    else:
        wait_until(lambda: queue.adopt(0.01))
    assert accounting(valkey.bytes) == {"received": 3, "dead:trimmed": 1}
    assert balance(valkey.bytes) == pending(valkey.bytes) == 2
    ((_, letter),) = valkey.bytes.xrange(KEYS.dead)
    assert (letter[b"entry_id"], letter[b"reason"]) == (dropped.encode(), b"trimmed")


def test_only_consumers_that_hold_nothing_are_retired(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """Deleting one with pending entries would lose them."""
    publish_many(valkey.bytes, 1)
    (delivery,) = other.read(1)
    queue.read(1)
    wait_until(lambda: valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP)[0]["idle"] > 20)
    queue.retire(0.01)
    assert [each["name"] for each in valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP)] == [b"other"]
    other.leave()
    assert queue.pending() == 1
    other.skip({SkipReason.STALE: [delivery.entry_id]})
    other.leave()
    assert valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP) == []


def test_a_wait_ends_with_the_next_entry(valkey: QueueServer, queue: Queue) -> None:
    """It looks behind what was read, so an entry that came in between isn't waited for."""
    assert queue.read(1) == []
    publish_many(valkey.bytes, 1)
    started = time.monotonic()
    queue.wait(120.0)
    assert time.monotonic() - started < 60.0
    assert len(queue.read(10)) == 1
    queue.wait(0.05)  # nothing comes: it ends by itself


def test_ages_are_by_redis_clock(valkey: QueueServer, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose clock is wrong takes the time from the replies."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    publish_many(valkey.bytes, 1)
    queue.read(1)
    seconds, _ = valkey.bytes.time()
    assert abs(queue.now() - seconds) < 20.0


def test_payloads_are_fetched_in_order(valkey: QueueServer, queue: Queue) -> None:
    """None for those that are gone and for keys of another type."""
    valkey.bytes.set("a", b"\xff\xd8")
    valkey.bytes.rpush("b", "x")
    assert queue.payloads([b"b", b"a", b"c", b"a"]) == [None, b"\xff\xd8", None, b"\xff\xd8"]


def test_a_batch_of_the_largest_size_fits_a_script(valkey: QueueServer, queue: Queue) -> None:
    """Lua unpacks no more than about 8000 values; 4096 ids are the most that one script gets."""
    publish_many(valkey.bytes, 4096)
    deliveries = queue.read(4096)
    assert queue.skip({SkipReason.TOO_SOON: ids(deliveries)}) == {SkipReason.TOO_SOON: 4096}
    assert balance(valkey.bytes) == 0


def test_trouble_is_said_once_and_so_is_its_end(
    valkey: QueueServer, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever Redis refuses, with its words."""
    caplog.set_level(logging.INFO)
    queue.read(1)
    valkey.bytes.set(KEYS.accounting, "in the way")
    for _ in range(3):
        with pytest.raises(QueueAwayError):
            queue.read(1)
    assert "WRONGTYPE" in queue.trouble
    valkey.bytes.delete(KEYS.accounting)
    queue.read(1)
    assert queue.trouble == ""
    assert [message.split(",")[0].split(" after")[0] for message in caplog.messages[1:]] == [
        "Redis refuses to read",
        "Redis is back",
    ]


def test_what_is_dropped_unread_is_counted(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """By the cap, before and between reads, with some still there or none; what was read isn't, nor a new queue."""
    publish_many(valkey.bytes, 30)
    valkey.bytes.xtrim(KEYS.frames, maxlen=20, approximate=False)
    assert len(queue.read(5)) == 5
    assert queue.dropped_unread == 10
    valkey.bytes.xtrim(KEYS.frames, maxlen=17, approximate=False)  # three that were read
    assert len(other.read(1)) == 1
    assert other.dropped_unread == 10
    valkey.bytes.xtrim(KEYS.frames, maxlen=10, approximate=False)  # three that were read, four that weren't
    assert len(queue.read(2)) == 2
    assert queue.dropped_unread == 14
    valkey.bytes.xtrim(KEYS.frames, maxlen=0)
    assert other.read(9) == []
    assert other.dropped_unread == 22
    publish_many(valkey.bytes, 3)
    valkey.bytes.delete(KEYS.accounting)
    assert len(queue.read(9)) == 3
    assert queue.read(9) == []
    assert queue.dropped_unread == 22
    assert 5 + 1 + 2 + 3 + queue.dropped_unread == 30 + 3
    valkey.bytes.delete(KEYS.frames)
    publish_many(valkey.bytes, 50)
    valkey.bytes.xtrim(KEYS.frames, maxlen=49, approximate=False)
    assert len(queue.read(100)) == 49
    assert queue.dropped_unread == 23


def test_a_queue_that_an_older_version_read_has_dropped_nothing(valkey: QueueServer, queue: Queue) -> None:
    """Where the position isn't known, what is gone isn't taken for dropped; what goes from then on is."""
    publish_many(valkey.bytes, 10)
    queue.read(4)
    valkey.bytes.delete(KEYS.unread)
    valkey.bytes.xtrim(KEYS.frames, maxlen=6, approximate=False)
    queue.read(2)
    assert queue.dropped_unread == 0
    valkey.bytes.xtrim(KEYS.frames, maxlen=3, approximate=False)
    queue.read(9)
    assert queue.dropped_unread == 1


def test_a_refusal_isnt_over_because_something_else_works(
    valkey: QueueServer, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """While results can't be written and entries can be read, that is one trouble, said once and shown throughout."""
    publish_many(valkey.bytes, 4)
    valkey.bytes.set(KEYS.counts, "in the way")
    caplog.set_level(logging.INFO)
    for _ in range(3):
        (delivery,) = queue.read(1)
        ending = counted(delivery.entry_id, "cam0", 1.0, "{}", 1)
        with pytest.raises(QueueAwayError):
            queue.settle([ending])
        queue.wait(0.001)
        assert "WRONGTYPE" in queue.trouble
    valkey.bytes.delete(KEYS.counts)
    queue.read(1)
    assert "WRONGTYPE" in queue.trouble
    assert queue.settle([ending]) == [True]
    assert queue.trouble == ""
    assert [message.split(",")[0].split(" after")[0] for message in caplog.messages if "Redis" in message] == [
        "Redis refuses to settle",
        "Redis is back",
    ]


def test_nothing_is_repeated_behind_our_back() -> None:
    """Where the connection breaks before the reply, the command was sent once: a read must not be done twice."""
    sent: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while (words := connection.recv(10_000)) and b"XLEN" not in words:
                    connection.sendall(b"+OK\r\n" * words.count(b"*"))
            sent.append(words)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        client = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        with pytest.raises(redis.ConnectionError):
            client.xlen("key")
        client.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert sum(b"XLEN" in words for words in sent) == 1
