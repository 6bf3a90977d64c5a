"""The pictures of frames: fetched in order, and deleted with their deliveries."""

from collections.abc import Sequence

import pytest
import redis
from redis.exceptions import MovedError, NoPermissionError
from support.processes.workers import KEYS, QueueServer, accounting, balance, publish_many

from handcounter.pacing.bounds import MAX_BATCH
from worker.queue.commands import Commands, QueueRejectedError
from worker.queue.consumer import Queue
from worker.queue.delivery import Counted, Delivery, dead_letter, skipped
from worker.queue.frame import DeadReason, EntryError, SkipReason, encode_entry, parse_entry
from worker.queue.keys import CONSUMER_GROUP
from worker.queue.redis_client import connect


def pictures(valkey: QueueServer) -> list[bytes]:
    """The keys of the pictures in Redis, in their order."""
    return sorted(valkey.bytes.keys(KEYS.payload("*")))


def end_in_each_way(queue: Queue, deliveries: Sequence[Delivery]) -> None:
    """Settles three deliveries: one as counted, one as dead, one as skipped."""
    frames = [parse_entry(each.entry_id, each.fields) for each in deliveries]
    counted = Counted(frames[0].entry_id, "cam0", 1.0, 1, "{}", frames[0].frame_key)
    queue.settle([counted, dead_letter(deliveries[1], DeadReason.UNDECODABLE, "no picture")])
    queue.skip([skipped(frames[2], SkipReason.STALE)])


def test_a_settled_delivery_takes_its_picture_along(valkey: QueueServer, queue: Queue) -> None:
    """However it ends; what waits or is held keeps its own."""
    publish_many(valkey.bytes, 5)
    deliveries = queue.read(4)
    assert len(pictures(valkey)) == 5
    end_in_each_way(queue, deliveries)
    waiting = [fields[b"frame_key"] for _, fields in valkey.bytes.xrange(KEYS.frames)][3:]
    assert pictures(valkey) == sorted(waiting)


def test_pictures_can_stay(valkey: QueueServer) -> None:
    """With keep_payloads, until their TTL."""
    queue = Queue(Commands(connect(valkey.url), KEYS), "me", keep_payloads=True)
    publish_many(valkey.bytes, 3)
    end_in_each_way(queue, queue.read(3))
    queue.close()
    assert len(pictures(valkey)) == 3


def test_an_entry_cannot_make_a_worker_delete_another_key(valkey: QueueServer, queue: Queue) -> None:
    """It may name any key as that of its picture, but only the queue's pictures are deleted."""
    targets = [KEYS.accounting, KEYS.payload(""), "{hand_counter}:frame", "{other}:frame:1", "stream_fps_configs"]
    valkey.bytes.mset(dict.fromkeys(targets[1:], "kept"))
    for ts, target in enumerate(targets * 3):
        valkey.bytes.xadd(KEYS.frames, encode_entry("cam", float(ts), target))
    deliveries = queue.read(15)
    for start in range(0, 15, 3):
        end_in_each_way(queue, deliveries[start : start + 3])
    assert accounting(valkey.bytes)["counted"] == 5
    assert valkey.bytes.exists(*targets) == 5


def test_a_delivery_that_cannot_be_settled_keeps_its_picture(valkey: QueueServer, queue: Queue) -> None:
    """It will be delivered again. Those that were settled before it lose theirs."""
    publish_many(valkey.bytes, 2)
    first, second = queue.read(2)
    keys = [each.fields[b"frame_key"] for each in (first, second)]
    settled = [
        Counted(first.entry_id, "cam0", 1.0, 1, "{}", keys[0]),
        dead_letter(second, DeadReason.FAILED, "no"),
    ]
    valkey.bytes.xadd(KEYS.dead, {"a": "b"}, id="18446744073709551615-18446744073709551615")
    with pytest.raises(QueueRejectedError):
        queue.settle(settled)
    assert pictures(valkey) == [keys[1]]
    valkey.bytes.delete(KEYS.dead)
    assert queue.settle(settled) == [False, True]
    assert pictures(valkey) == []


def test_a_delivery_that_is_not_pending_keeps_its_picture(valkey: QueueServer, queue: Queue) -> None:
    """After Redis lost its last second, an entry that a worker holds is new again, and will be delivered with its picture."""
    publish_many(valkey.bytes, 3)
    rows = valkey.bytes.xrange(KEYS.frames)
    valkey.bytes.xgroup_create(KEYS.frames, CONSUMER_GROUP, id="0")
    frames = [Delivery(entry_id.decode(), fields, 1) for entry_id, fields in rows]
    end_in_each_way(queue, frames)
    assert len(pictures(valkey)) == 3
    end_in_each_way(queue, queue.read(3))
    assert pictures(valkey) == []
    assert accounting(valkey.bytes) == {"received": 3, "counted": 1, "dead:undecodable": 1, "skipped:stale": 1}


def test_deliveries_are_settled_although_pictures_cannot_be_deleted(valkey: QueueServer) -> None:
    """Without the permission, which a user made for an older version lacks, they stay until their TTL."""
    valkey.bytes.execute_command("ACL SETUSER", "limited", "on", ">SECRET", "~*", "+@all", "-unlink")
    queue = Queue(Commands(connect(valkey.url.replace("redis://", "redis://limited:SECRET@")), KEYS), "me")
    publish_many(valkey.bytes, 3)
    end_in_each_way(queue, queue.read(3))
    queue.close()
    valkey.bytes.execute_command("ACL DELUSER", "limited")
    assert accounting(valkey.bytes) == {"received": 3, "counted": 1, "dead:undecodable": 1, "skipped:stale": 1}
    assert len(pictures(valkey)) == 3


def test_payloads_are_fetched_in_order(valkey: QueueServer, queue: Queue) -> None:
    """None stands for keys that don't exist, an error for those that hold something else."""
    valkey.bytes.set("a", b"\xff\xd8")
    valkey.bytes.rpush("b", "x")
    error, *others = queue.payloads([b"b", b"a", b"c", b"a"])
    assert others == [b"\xff\xd8", None, b"\xff\xd8"]
    assert isinstance(error, EntryError)
    assert error.reason is DeadReason.BAD_FRAME_KEY
    assert "b'b'" in str(error)


class Replies:
    """A client whose pipeline gets these replies."""

    def __init__(self, *replies: object) -> None:
        self._replies = replies

    def pipeline(self, transaction: bool) -> "Replies":  # noqa: ARG002
        return self

    def execute_command(self, *words: object) -> None:
        """Sends nothing."""

    def execute(self, raise_on_error: bool) -> list[object]:  # noqa: ARG002
        return list(self._replies)

    def register_script(self, _text: str) -> None:
        """Scripts aren't run."""


OWN, FOREIGN = KEYS.payload("1").encode(), b"elsewhere"


@pytest.mark.parametrize(
    ("key", "reply", "is_the_keys_fault"),
    [
        (OWN, redis.ResponseError("WRONGTYPE Operation against a key"), True),
        (FOREIGN, NoPermissionError("No permissions to access a key"), True),
        (FOREIGN, NoPermissionError("this user has no permissions to access one of the keys used as arguments"), True),
        (FOREIGN, MovedError("1234 10.0.0.1:6379"), True),
        # Next to the queue it isn't: permissions and clusters can be repaired.
        (OWN, NoPermissionError("No permissions to access a key"), False),
        (OWN, MovedError("1234 10.0.0.1:6379"), False),
        # The server's state.
        (FOREIGN, NoPermissionError("User u has no permissions to run the 'get' command"), False),
        (FOREIGN, redis.ResponseError("BUSY Redis is busy running a script"), False),
        (FOREIGN, redis.ResponseError("MASTERDOWN Link with MASTER is down"), False),
        (OWN, redis.ResponseError("ERR upstream failure"), False),
    ],
)
def test_an_error_never_means_that_a_payload_is_gone(key: bytes, reply: Exception, is_the_keys_fault: bool) -> None:
    """It is the key's fault, which no repetition repairs, or a rejection, after which the key is fetched again."""
    queue = Queue(Commands(Replies(b"jpeg", reply), KEYS), "me")  # type: ignore[arg-type]
    if is_the_keys_fault:
        payload, error = queue.payloads([b"other", key])
        assert payload == b"jpeg"
        assert isinstance(error, EntryError)
        assert error.reason is DeadReason.BAD_FRAME_KEY
        assert str(reply) in str(error)
    else:
        with pytest.raises(QueueRejectedError):
            queue.payloads([b"other", key])


def test_a_duplicate_leaves_the_picture_to_the_frame_that_it_repeats(valkey: QueueServer, queue: Queue) -> None:
    """A client that lost the reply to an XADD has added the entry twice, and the first one may still wait for its turn."""
    publish_many(valkey.bytes, 1)
    ((_, fields),) = valkey.bytes.xrange(KEYS.frames)
    valkey.bytes.xadd(KEYS.frames, fields)
    first, second = (parse_entry(each.entry_id, each.fields) for each in queue.read(2))
    queue.skip([skipped(second, SkipReason.DUPLICATE)])
    assert pictures(valkey) == [first.frame_key]
    queue.settle([Counted(first.entry_id, "cam0", 1.0, 1, "{}", first.frame_key)])
    assert pictures(valkey) == []


def test_a_batch_of_the_largest_size_fits_a_script(valkey: QueueServer, queue: Queue) -> None:
    """Lua unpacks no more than about 8000 values, and a batch has up to MAX_BATCH ids, and as many pictures."""
    publish_many(valkey.bytes, MAX_BATCH)
    frames = [parse_entry(each.entry_id, each.fields) for each in queue.read(MAX_BATCH)]
    skips = [skipped(frame, SkipReason.TOO_SOON) for frame in frames]
    assert queue.skip(skips) == {SkipReason.TOO_SOON: MAX_BATCH}
    assert balance(valkey.bytes) == 0
    assert pictures(valkey) == []
