"""Whatever Redis refuses, and at whichever step of a script: the accounting stays exact, and nothing is half done."""

from collections.abc import Callable, Iterator

import pytest
import redis
from support.processes.workers import KEYS, QueueServer, accounting, balance, pending, publish_many

from worker.queue.commands import Commands, QueueRejectedError
from worker.queue.consumer import Queue
from worker.queue.delivery import Counted, Skipped, dead_letter
from worker.queue.frame import DeadReason, SkipReason
from worker.queue.redis_client import connect

LAST_ID = "18446744073709551615-18446744073709551615"


@pytest.fixture
def queue(valkey: QueueServer) -> Iterator[Queue]:
    """The queue, as a consumer whose user may do everything at first."""
    valkey.bytes.execute_command("ACL SETUSER", "limited", "on", ">SECRET", "~*", "+@all")
    consumer = Queue(Commands(connect(valkey.url.replace("redis://", "redis://limited:SECRET@")), KEYS), "me")
    yield consumer
    consumer.close()
    valkey.bytes.execute_command("ACL DELUSER", "limited")


def steps(valkey: QueueServer, queue: Queue) -> Iterator[Callable[[], object]]:
    """Everything that a worker does with twelve deliveries; all of them are settled in the end."""
    other = Queue(Commands(connect(valkey.url), KEYS), "other")
    publish_many(valkey.bytes, 8)
    yield lambda: queue.read(100)
    publish_many(valkey.bytes, 4)
    valkey.bytes.xtrim(KEYS.frames, maxlen=3, approximate=False)
    yield lambda: queue.read(100)
    gone, kept = list(queue.unsettled())[:8], list(queue.unsettled())[8:]
    yield lambda: queue.take([gone[0], kept[0]])
    other.adopt(0.0)
    yield lambda: queue.adopt(0.0)
    yield lambda: queue.skip([Skipped(kept[0], SkipReason.STALE)])
    (delivery,) = other.take(kept[1:2]) or queue.take(kept[1:2])
    yield lambda: queue.settle(
        [Counted(kept[1], "cam", 1.0, 1, "{}"), dead_letter(delivery._replace(entry_id=kept[2]), DeadReason.FAILED, "")]
    )
    other.close()


def exact(client: redis.Redis) -> bool:
    """Whether each delivery is pending or ended once, with its result or letter."""
    fields = accounting(client)
    letters = sum(value for name, value in fields.items() if name.startswith("dead:"))
    return (
        balance(client) == pending(client)
        and client.xlen(KEYS.counts) == fields.get("counted", 0)
        and client.xlen(KEYS.dead) == letters
    )


@pytest.mark.parametrize(
    "command", ["hget", "hincrby", "hset", "xack", "xadd", "xclaim", "xrange", "xreadgroup", "xpending"]
)
def test_a_missing_permission_leaves_nothing_half_done(valkey: QueueServer, queue: Queue, command: str) -> None:
    """Each step is refused as a whole or done as a whole; once the permission is there everything ends exactly once."""
    refused = 0
    for step in steps(valkey, queue):
        valkey.bytes.execute_command("ACL SETUSER", "limited", f"-{command}")
        try:
            step()
        except QueueRejectedError:
            refused += 1
        assert exact(valkey.bytes)
        valkey.bytes.execute_command("ACL SETUSER", "limited", f"+{command}")
        step()
        assert exact(valkey.bytes)
    assert refused > 0
    assert pending(valkey.bytes) == 0
    assert accounting(valkey.bytes)["received"] == 11
    assert queue.dropped_unread == 1


FIELDS = ["received", "counted", "skipped:stale", "dead:trimmed", "dead:failed"]


@pytest.mark.parametrize("value", ["not a number", str(2**63 - 1)])
@pytest.mark.parametrize("field", FIELDS)
def test_a_counter_that_cannot_grow_leaves_nothing_half_done(
    valkey: QueueServer, queue: Queue, field: str, value: str
) -> None:
    """Because somebody set it by hand."""
    refused = 0
    for step in steps(valkey, queue):
        before = valkey.bytes.hget(KEYS.accounting, field)
        valkey.bytes.hset(KEYS.accounting, field, value)
        try:
            step()
        except QueueRejectedError:
            refused += 1
            assert valkey.bytes.hget(KEYS.accounting, field) == value.encode()
        if before is None:
            valkey.bytes.hdel(KEYS.accounting, field)
        else:
            valkey.bytes.hset(KEYS.accounting, field, before)
        assert exact(valkey.bytes)
        step()
        assert exact(valkey.bytes)
    assert refused > 0
    assert pending(valkey.bytes) == 0


@pytest.mark.parametrize("key", [KEYS.counts, KEYS.dead])
def test_a_stream_without_ids_left_leaves_nothing_half_done(valkey: QueueServer, queue: Queue, key: str) -> None:
    """After an entry with the last possible id Redis refuses every other one."""
    refused = 0
    for step in steps(valkey, queue):
        saved = valkey.bytes.dump(key)
        valkey.bytes.xadd(key, {"a": "b"}, id=LAST_ID)
        try:
            step()
        except QueueRejectedError:
            refused += 1
        valkey.bytes.delete(key)
        if saved:
            valkey.bytes.restore(key, 0, saved)
        assert exact(valkey.bytes)
        step()
        assert exact(valkey.bytes)
    assert refused > 0
    assert pending(valkey.bytes) == 0


def test_frames_are_settled_although_memory_is_short(valkey: QueueServer, queue: Queue) -> None:
    """Publishers are refused, but a worker goes on, so that memory gets free."""
    queue.read(1)  # creates the consumer group
    for step in steps(valkey, queue):
        valkey.bytes.config_set("maxmemory", 1)
        try:
            step()
        finally:
            valkey.bytes.config_set("maxmemory", 0)
        assert exact(valkey.bytes)
    assert pending(valkey.bytes) == 0
