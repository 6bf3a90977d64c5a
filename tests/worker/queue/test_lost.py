"""What the consumer group forgets is counted once as lost, and what was delivered before isn't delivered again."""

from collections.abc import Callable, Iterator

import pytest
import redis
from support.processes.workers import KEYS, QueueServer, accounting, balance, pending, publish_many

from worker.queue.commands import Commands
from worker.queue.consumer import Queue
from worker.queue.delivery import Skipped
from worker.queue.frame import DeadReason, SkipReason
from worker.queue.keys import CONSUMER_GROUP
from worker.queue.redis_client import connect


class Lost:
    """Notes what was dead-lettered by scripts."""

    def __init__(self) -> None:
        self.noted: list[tuple[DeadReason, int]] = []

    def __call__(self, reason: DeadReason, number: int) -> None:
        if number:
            self.noted.append((reason, number))


@pytest.fixture
def lost() -> Lost:
    """Notes what was dead-lettered by scripts."""
    return Lost()


@pytest.fixture
def queue(valkey: QueueServer, lost: Lost) -> Iterator[Queue]:
    """The queue, after seven of ten entries were read and four of these were skipped."""
    queue = Queue(Commands(connect(valkey.url), KEYS), "me", on_dead=lost)
    publish_many(valkey.bytes, 10)
    queue.skip([Skipped(each.entry_id, SkipReason.STALE) for each in queue.read(7)[:4]])
    assert queue.reconcile() == 0
    yield queue
    queue.close()


def destroy(client: redis.Redis) -> None:
    """Destroys the group."""
    client.xgroup_destroy(KEYS.frames, CONSUMER_GROUP)


def delete_consumer(client: redis.Redis) -> None:
    """Deletes the consumer that holds three entries."""
    client.xgroup_delconsumer(KEYS.frames, CONSUMER_GROUP, "me")


def acknowledge(client: redis.Redis) -> None:
    """Acknowledges three entries by hand."""
    ids = [row["message_id"] for row in client.xpending_range(KEYS.frames, CONSUMER_GROUP, "-", "+", 10)]
    client.xack(KEYS.frames, CONSUMER_GROUP, *ids)


@pytest.mark.parametrize("by", [destroy, delete_consumer, acknowledge])
def test_what_the_group_forgets_is_lost_once(
    valkey: QueueServer, queue: Queue, lost: Lost, by: Callable[[redis.Redis], None]
) -> None:
    """The three that were held are counted as dead; the three that weren't read are delivered, and no other."""
    by(valkey.bytes)
    assert queue.reconcile() == 3
    assert queue.reconcile() == 0
    assert lost.noted == [(DeadReason.LOST, 3)]
    assert accounting(valkey.bytes) == {"received": 7, "skipped:stale": 4, "dead:lost": 3}
    ((_, letter),) = valkey.bytes.xrange(KEYS.dead)
    assert (letter[b"reason"], letter[b"deliveries"]) == (b"lost", b"3")
    assert [float(each.fields[b"ts"]) for each in queue.read(100)] == [
        float(fields[b"ts"]) for _, fields in valkey.bytes.xrange(KEYS.frames)[7:]
    ]
    assert queue.dropped_unread == 0
    assert balance(valkey.bytes) == pending(valkey.bytes) == 3


def test_a_destroyed_group_continues_behind_what_the_cap_dropped(valkey: QueueServer, queue: Queue) -> None:
    """Nine entries are gone, of which seven were read."""
    valkey.bytes.xtrim(KEYS.frames, maxlen=1, approximate=False)
    destroy(valkey.bytes)
    assert len(queue.read(100)) == 1
    assert queue.dropped_unread == 2


def test_a_deleted_queue_starts_again(valkey: QueueServer, queue: Queue) -> None:
    """With all of its entries, although fewer are gone than were read of the one before."""
    valkey.bytes.delete(KEYS.frames)
    publish_many(valkey.bytes, 5)
    valkey.bytes.xtrim(KEYS.frames, maxlen=4, approximate=False)
    assert len(queue.read(100)) == 4
    assert queue.dropped_unread == 1
    assert queue.reconcile() == 3
    assert balance(valkey.bytes) == pending(valkey.bytes) == 4


def test_a_new_queue_may_have_smaller_ids(valkey: QueueServer, queue: Queue) -> None:
    """Of publishers that choose them."""
    valkey.bytes.delete(KEYS.frames)
    valkey.bytes.xadd(KEYS.frames, {"a": "b"}, id="5-1")
    assert [each.entry_id for each in queue.read(100)] == ["5-1"]


@pytest.mark.parametrize("change", [{"received": 2}, {"received": "x"}, {"counted": "x"}])
def test_counters_changed_by_hand_lose_nothing(valkey: QueueServer, queue: Queue, change: dict[str, str]) -> None:
    """If they were reset or aren't numbers, they don't show what is lost."""
    valkey.bytes.hset(KEYS.accounting, mapping=change)
    destroy(valkey.bytes)
    assert queue.reconcile() == 0
    assert valkey.bytes.hget(KEYS.accounting, "dead:lost") is None


def test_a_letter_that_is_refused_leaves_nothing_half_done(valkey: QueueServer, queue: Queue) -> None:
    """It is repeated."""
    destroy(valkey.bytes)
    valkey.bytes.set(KEYS.dead, "in the way")
    with pytest.raises(Exception, match="WRONGTYPE"):
        queue.reconcile()
    assert balance(valkey.bytes) == 3
    valkey.bytes.delete(KEYS.dead)
    assert queue.reconcile() == 3
