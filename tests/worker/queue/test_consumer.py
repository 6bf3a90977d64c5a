"""The consumer of the queue, against a real Valkey."""

import itertools
import math
import time

import pytest
from support.processes.workers import KEYS, QueueServer, accounting, balance, calls, pending, publish_many
from support.waiting import wait_until

from worker.queue.commands import Commands, QueueRejectedError
from worker.queue.consumer import Queue
from worker.queue.delivery import Counted, Delivery, Skipped, dead_letter
from worker.queue.frame import DeadReason, SkipReason
from worker.queue.keys import CONSUMER_GROUP
from worker.queue.redis_client import connect


def ids(deliveries: list[Delivery]) -> list[str]:
    """The ids of deliveries."""
    return [delivery.entry_id for delivery in deliveries]


@pytest.mark.parametrize("idle", [math.inf, 1e20])
def test_nothing_is_adopted_after_an_infinite_time(
    valkey: QueueServer, queue: Queue, other: Queue, idle: float
) -> None:
    """Which --claim-idle may be."""
    publish_many(valkey.bytes, 1)
    other.read(1)
    assert queue.adopt(idle) == 0
    queue.retire(idle)
    assert len(valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP)) == 1


def test_entries_are_received_once(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """Two consumers share the queue, and each entry is counted as received when it is delivered."""
    publish_many(valkey.bytes, 10)
    mine, others = queue.read(6), other.read(100)
    assert (len(mine), len(others)) == (6, 4)
    assert not set(ids(mine)) & set(ids(others))
    assert mine[0].fields[b"stream_name"] == b"cam0"
    assert [delivery.times_delivered for delivery in mine] == [1] * 6
    assert queue.read(100) == []
    assert accounting(valkey.bytes) == {"received": 10}


def test_each_delivery_is_settled_once(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """However often it is repeated, and by any consumer: the first one wins."""
    publish_many(valkey.bytes, 4)
    first, second, third, fourth = queue.read(10)
    settled = [
        Counted(first.entry_id, "cam0", 1.0, 1, '{"by": "me"}'),
        dead_letter(second, DeadReason.UNDECODABLE, "no picture"),
    ]
    skips = [
        Skipped(third.entry_id, SkipReason.TOO_SOON),
        Skipped(fourth.entry_id, SkipReason.STALE),
        Skipped(first.entry_id, SkipReason.STALE),
    ]
    assert queue.settle(settled) == [True, True]
    assert queue.skip(skips) == {SkipReason.TOO_SOON: 1, SkipReason.STALE: 1}
    for again in (queue, other):
        assert again.settle(settled) == [False, False]
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


def test_an_entry_stays_pending_if_its_result_cannot_be_written(valkey: QueueServer, queue: Queue) -> None:
    """While a key has another type nothing is changed; afterwards the same command succeeds."""
    publish_many(valkey.bytes, 1)
    (delivery,) = queue.read(1)
    settled = Counted(delivery.entry_id, "cam0", 1.0, 0, "{}")
    for key in (KEYS.counts, KEYS.dead):
        valkey.bytes.set(key, "in the way")
        with pytest.raises(QueueRejectedError, match="WRONGTYPE"):
            queue.settle([settled])
        assert balance(valkey.bytes) == pending(valkey.bytes) == 1
        valkey.bytes.delete(key)
    assert queue.settle([settled]) == [True]


def test_all_lengths_are_capped(valkey: QueueServer) -> None:
    """Results and dead letters are trimmed to about the caps."""
    queue = Queue(Commands(connect(valkey.url), KEYS), "me", counts_maxlen=100, dead_maxlen=50)
    publish_many(valkey.bytes, 2000)
    deliveries = queue.read(2000)
    queue.settle([Counted(each.entry_id, "cam0", 1.0, 0, "{}") for each in deliveries[:1000]])
    queue.settle([dead_letter(each, DeadReason.FAILED, "no") for each in deliveries[1000:]])
    assert 100 <= valkey.bytes.xlen(KEYS.counts) < 300
    assert 50 <= valkey.bytes.xlen(KEYS.dead) < 250
    queue.close()


def test_entries_are_taken_up_again(valkey: QueueServer, queue: Queue) -> None:
    """Unsettled entries are listed with the times delivered; taking one up counts as a delivery, but not as received."""
    publish_many(valkey.bytes, 3)
    first, second, third = ids(queue.read(3))
    assert queue.unsettled() == {first: 1, second: 1, third: 1}
    (again,) = queue.take([second])
    assert (again.entry_id, again.times_delivered, again.fields[b"stream_name"]) == (second, 2, b"cam0")
    assert queue.unsettled() == {first: 1, second: 2, third: 1}
    queue.skip([Skipped(second, SkipReason.STALE)])
    assert queue.take([second]) == []
    assert accounting(valkey.bytes) == {"received": 3, "skipped:stale": 1}


def test_only_silent_workers_lose_their_entries(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """An extended hold prevents adoption; adoption doesn't count as a delivery."""
    publish_many(valkey.bytes, 2)
    (kept,), (left,) = ids(other.read(1)), ids(other.read(1))
    an_hour_ms = 3_600_000
    valkey.bytes.xclaim(KEYS.frames, CONSUMER_GROUP, "other", 0, [kept, left], idle=an_hour_ms, justid=True)
    other.extend_hold([kept])
    assert queue.adopt(1800.0) == 1
    assert queue.unsettled() == {left: 1}
    assert other.unsettled() == {kept: 1}
    assert other.take([left]) == []


def test_all_pages_are_adopted(
    valkey: QueueServer, queue: Queue, other: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One script adopts a page, and the next one continues behind it."""
    monkeypatch.setattr("worker.queue.consumer._PAGE", 2)
    publish_many(valkey.bytes, 5)
    entry_ids = ids(other.read(5))
    other.release(entry_ids)
    assert queue.adopt(3600.0) == 5
    assert list(queue.unsettled()) == entry_ids


def test_released_entries_are_adopted_at_once(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """However often that happens, no delivery to a worker that stopped is added, because a stop isn't a crash."""
    publish_many(valkey.bytes, 1)
    (entry_id,) = ids(other.read(1))
    for releasing, adopting in ((other, queue), (queue, other), (other, queue)):
        releasing.release([entry_id])
        assert adopting.adopt(3600.0) == 1
        assert [delivery.times_delivered for delivery in adopting.take([entry_id])] == [2]


def test_an_undecided_entry_stays_undecided(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """Whether its worker stops or crashes: the next delivery counts as the first one. Only its holder may set that."""
    publish_many(valkey.bytes, 3)
    entry_ids = ids(other.read(3))
    valkey.bytes.xdel(KEYS.frames, entry_ids.pop())
    other.set_deliveries(dict.fromkeys([*entry_ids, "1-1"], 0))
    queue.set_deliveries({entry_ids[0]: 7})
    other.release(entry_ids[:1])
    assert queue.adopt(3600.0) == 1
    for consumer, entry_id in zip((queue, other), entry_ids, strict=True):
        assert [delivery.times_delivered for delivery in consumer.take([entry_id])] == [1]
        consumer.set_deliveries({entry_id: 4})
        assert consumer.unsettled()[entry_id] == 4
    assert pending(valkey.bytes) == 3


@pytest.mark.parametrize("by", ["take", "adopt"])
def test_held_entries_that_the_queue_dropped_are_dead_lettered(
    valkey: QueueServer, queue: Queue, other: Queue, by: str
) -> None:
    """By their holder or by the worker that adopts them; a sign of life doesn't prevent it."""
    publish_many(valkey.bytes, 3)
    dropped, *_ = entry_ids = ids(other.read(3))
    valkey.bytes.xtrim(KEYS.frames, maxlen=2, approximate=False)
    other.extend_hold(entry_ids)
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
    """Deleting a consumer that holds entries would lose them."""
    publish_many(valkey.bytes, 1)
    (delivery,) = other.read(1)
    queue.read(1)
    wait_until(lambda: valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP)[0]["idle"] > 20)
    queue.retire(0.01)
    assert [each["name"] for each in valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP)] == [b"other"]
    other.leave()
    assert queue.pending() == 1
    other.skip([Skipped(delivery.entry_id, SkipReason.STALE)])
    other.leave()
    assert valkey.bytes.xinfo_consumers(KEYS.frames, CONSUMER_GROUP) == []


def test_a_wait_ends_with_the_next_entry(valkey: QueueServer, queue: Queue) -> None:
    """It returns at once if an entry arrived since the last read, and after the given time if none arrives."""
    assert queue.read(1) == []
    publish_many(valkey.bytes, 1)
    started = time.monotonic()
    queue.wait(120.0)
    assert time.monotonic() - started < 60.0
    assert len(queue.read(10)) == 1
    queue.wait(0.05)  # nothing arrives


@pytest.mark.parametrize(("entries", "seconds", "known"), [(0, 0.0, True), (1, 1.0, True), (1, 0.0, False)])
def test_what_a_wait_says_of_the_queue(valkey: QueueServer, entries: int, seconds: float, known: bool) -> None:
    """All was read until it ended, unless an entry came at once: that may have been there for long."""
    clock = itertools.count(0.0, seconds)
    with connect(valkey.url) as client:
        queue = Queue(Commands(client, KEYS, lambda: next(clock)), "me")
        queue.read(1)
        publish_many(valkey.bytes, entries)
        queue.read_until = before = queue.now() - 100.0
        assert queue.wait(0.01) == bool(entries)
        assert queue.read_until == (pytest.approx(queue.now(), abs=50.0) if known else before)


def test_ages_are_by_redis_clock(valkey: QueueServer, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with a wrong clock takes the time from Redis' replies."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    publish_many(valkey.bytes, 1)
    queue.read(1)
    seconds, _ = valkey.bytes.time()
    assert abs(queue.now() - seconds) < 20.0


def test_an_id_in_the_future_makes_no_entry_fresh(valkey: QueueServer, queue: Queue) -> None:
    """An entry is as old as the time since Redis took it in, although Redis goes on with that id."""
    queue.read(1)
    valkey.bytes.xadd(KEYS.frames, {"a": "b"}, id="99999999999999-0")
    publish_many(valkey.bytes, 2)
    (chosen,) = queue.read(1)
    first_read = queue.now()
    wait_until(lambda: queue.now() > first_read + 0.2)
    following, another = queue.read(10)
    assert following.entry_id.startswith("99999999999999-")
    for delivery in (chosen, following, another):
        assert delivery.arrived_at is not None
        assert delivery.arrived_at <= first_read
    (again,) = queue.take([following.entry_id])
    assert again.arrived_at is not None
    assert again.arrived_at <= queue.now()


def test_a_publishers_time_survives_a_restart(valkey: QueueServer, queue: Queue) -> None:
    """Behind an id in the future it is what says how old an entry is."""
    seconds, _ = valkey.bytes.time()
    valkey.bytes.xadd(KEYS.frames, {"queued_at": f"{seconds - 28}.5"}, id="99999999999999-0")
    (delivery,) = queue.read(1)
    assert delivery.arrived_at == seconds - 27.5
    assert queue.take([delivery.entry_id])[0].arrived_at == seconds - 27.5


def test_what_is_dropped_unread_is_counted(valkey: QueueServer, queue: Queue, other: Queue) -> None:
    """Entries that the cap drops before or between reads are counted; entries that were read aren't, nor a new queue."""
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


def test_drops_before_an_upgrade_are_not_counted(valkey: QueueServer, queue: Queue) -> None:
    """Without a position only entries that are dropped from now on are counted."""
    publish_many(valkey.bytes, 10)
    queue.read(4)
    valkey.bytes.delete(KEYS.unread)
    valkey.bytes.xtrim(KEYS.frames, maxlen=6, approximate=False)
    queue.read(2)
    assert queue.dropped_unread == 0
    valkey.bytes.xtrim(KEYS.frames, maxlen=3, approximate=False)
    queue.read(9)
    assert queue.dropped_unread == 1


def add_inline(valkey: QueueServer, *sizes: int) -> None:
    """Adds entries with pictures of these sizes inside; 0: with a key."""
    for size in sizes:
        fields = {"stream_name": "cam", "ts": "1", **({"frame": bytes(size)} if size else {"frame_key": "key"})}
        valkey.bytes.xadd(KEYS.frames, fields)


@pytest.mark.parametrize(
    ("sizes", "most_bytes", "reads"),
    [
        ([100] * 12, 1000, [8, 4, 0]),  # 122 bytes each
        ([5000] * 3, 1000, [1, 1, 1, 0]),
        ([100, 900, 100, 100, 100], 1000, [2, 3, 0]),
        ([0] * 300, 1000, [34, 34, 34]),  # 29 bytes each
        ([0] * 300, 100_000, [256, 44, 0]),
        ([0] * 5 + [600] * 9, 1000, [6, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
        ([0] * 30 + [5000] * 4, 10_000, [31, 1, 1, 1, 0]),
        ([0] * 10 + [600] * 4, 10_000, [14, 0]),
        ([0] * 8 + [5000] * 4 + [0], 1000, [9, 1, 1, 1, 1, 0]),  # the last one doesn't tell of those before it
    ],
)
def test_at_most_so_many_bytes_and_one_entry_are_read_at_once(
    valkey: QueueServer, queue: Queue, sizes: list[int], most_bytes: int, reads: list[int]
) -> None:
    """At least one entry. Large ones that follow many small ones are no exception."""
    add_inline(valkey, *sizes)
    read: list[bytes] = []
    for number in reads:
        deliveries = queue.read(256, most_bytes)
        assert len(deliveries) == number
        read += [delivery.entry_id.encode() for delivery in deliveries]
        (group,) = valkey.bytes.xinfo_groups(KEYS.frames)
        assert (group["pending"], group["lag"]) == (len(read), len(sizes) - len(read))
    assert read == [entry_id for entry_id, _ in valkey.bytes.xrange(KEYS.frames)][: len(read)]
    assert accounting(valkey.bytes) == {"received": sum(reads)}


def test_usual_entries_are_read_in_one_go(valkey: QueueServer, queue: Queue) -> None:
    """They are small. Large ones that come behind them don't change that, nor do they get in with them."""
    assert queue.read(1) == []
    publish_many(valkey.bytes, 100)
    valkey.bytes.config_resetstat()
    assert len(queue.read(60, 670_000)) == 60
    assert calls(valkey.bytes, "xreadgroup") == 1
    add_inline(valkey, 300_000, 500_000, 10)
    assert [len(queue.read(256, 670_000)) for _ in range(3)] == [42, 1, 0]
    assert pending(valkey.bytes) == 103


def test_a_user_who_may_not_give_entries_back_keeps_them(valkey: QueueServer, queue: Queue) -> None:
    """Then a reply may have more bytes; nothing is lost."""
    assert queue.read(1) == []
    valkey.bytes.execute_command("ACL SETUSER default -xgroup|setid")
    try:
        add_inline(valkey, *[0] * 8, *[5000] * 4, 0)
        assert len(queue.read(256, 1000)) == 13
        assert accounting(valkey.bytes) == {"received": 13}
        assert pending(valkey.bytes) == 13
    finally:
        valkey.bytes.execute_command("ACL SETUSER default +@all")


def test_what_is_taken_up_again_is_bounded_alike(valkey: QueueServer, queue: Queue) -> None:
    """What doesn't fit stays as it was."""
    add_inline(valkey, *[300] * 5)
    entry_ids = [delivery.entry_id for delivery in queue.read(5)]
    assert [each.entry_id for each in queue.take(entry_ids, 1000)] == entry_ids[:3]
    assert [each.entry_id for each in queue.take(entry_ids[3:], 1)] == entry_ids[3:4]
    assert list(queue.unsettled().values()) == [2, 2, 2, 2, 1]
