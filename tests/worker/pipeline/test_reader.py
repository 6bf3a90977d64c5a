"""The reader, with a settler behind it and a real Valkey whose replies get lost."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.pipelines import EveryNth, LossyCommands, ReaderAndSettler
from support.processes.workers import (
    KEYS,
    T0,
    QueueServer,
    accounting,
    balance,
    calls,
    pending,
    publish,
    publish_many,
)
from support.waiting import wait_until

from worker.pipeline.reader import MOST_HELD
from worker.queue.consumer import Queue
from worker.queue.frame import SkipReason
from worker.queue.keys import CONSUMER_GROUP


def test_a_batch_is_one_decision_and_skips_come_before_payloads(
    valkey: QueueServer, commands: LossyCommands, queue: Queue
) -> None:
    """One command skips what was denied; payloads are fetched when their turn comes, of admitted frames alone."""
    publish_many(valkey.bytes, 60)
    limiter = EveryNth(6)
    jobs = ReaderAndSettler(queue, limiter).run()
    assert [len(batch) for batch in limiter.batches] == [60]
    assert [job.frame.ts for job in jobs] == [T0 + i / 30 for i in range(0, 60, 6)]
    assert commands.done.count("skip") == 1
    assert calls(valkey.bytes, "get") == 10 + 1  # and the check of the permissions
    assert accounting(valkey.bytes) == {"received": 60, "counted": 10, "skipped:too_soon": 50}


@pytest.mark.parametrize("lost", ["read", "skip", "payloads", "settle", "take", "adopt"])
def test_a_lost_reply_loses_nothing_and_counts_nothing_twice(
    valkey: QueueServer, commands: LossyCommands, queue: Queue, lost: str
) -> None:
    """If Redis executed a command but the reply was lost, every entry is still settled exactly once."""
    publish_many(valkey.bytes, 60)
    commands.lose = ["read", "take"] if lost == "take" else [lost]
    ReaderAndSettler(queue, EveryNth(6)).run()
    assert commands.lose == []
    fields = accounting(valkey.bytes)
    assert fields["received"] == 60
    assert balance(valkey.bytes) == pending(valkey.bytes) == 0
    assert valkey.bytes.xlen(KEYS.counts) == fields["counted"]
    # Redelivered frames are counted without a decision; of the others a sixth is admitted.
    assert fields["counted"] == (60 if lost in ("read", "take") else 10)


@pytest.mark.parametrize(("max_age", "outcome"), [(math.inf, "counted"), (-1e9, "skipped:stale")])
def test_a_redelivered_frame_is_not_decided_again(
    valkey: QueueServer, commands: LossyCommands, queue: Queue, max_age: float, outcome: str
) -> None:
    """It is counted, because the sidecar would call it a duplicate; or skipped as stale, without a fetch."""
    publish_many(valkey.bytes, 5)
    queue.read(5)
    limiter = EveryNth()
    ReaderAndSettler(queue, limiter, max_age=max_age).run()
    assert limiter.batches == []
    assert accounting(valkey.bytes) == {"received": 5, outcome: 5}
    assert ("payloads" in commands.done) == (outcome == "counted")


def times_delivered(valkey: QueueServer) -> list[int]:
    """How often Redis says that each pending entry was delivered, oldest first."""
    return [row["times_delivered"] for row in valkey.bytes.xpending_range(KEYS.frames, CONSUMER_GROUP, "-", "+", 100)]


@contextmanager
def reading(parts: ReaderAndSettler) -> Iterator[threading.Thread]:
    """Runs the parts beside the test."""
    thread = threading.Thread(target=parts.run)
    thread.start()
    try:
        yield thread
    finally:
        parts.stop.set()
        thread.join(60.0)
        assert not thread.is_alive()


def test_a_frame_waits_until_the_limit_of_its_stream_is_told(valkey: QueueServer, queue: Queue) -> None:
    """Others don't wait. Until it is decided Redis says that it was never delivered, because waiting is no crash."""
    limiter = EveryNth()
    limiter.unknown = {"new0"}
    limiter.sidecar_unreachable = True
    publish_many(valkey.bytes, 3, name="new")
    publish_many(valkey.bytes, 2, name="known")
    parts = ReaderAndSettler(queue, limiter)
    with reading(parts) as thread:
        wait_until(lambda: accounting(valkey.bytes).get("counted") == 2)
        assert times_delivered(valkey) == [0, 0, 0]
        assert parts.metrics.registry.get_sample_value("hand_counter_waiting_for_limit") == 3
        limiter.unknown = set()
        limiter.sidecar_unreachable = False
        thread.join(60.0)
    assert [job.frame.stream_name for job in parts.done] == ["known0"] * 2 + ["new0"] * 3
    assert accounting(valkey.bytes) == {"received": 5, "counted": 5}


def test_a_sidecar_that_answers_without_a_limit_is_asked_again(valkey: QueueServer, queue: Queue) -> None:
    """For example one that rejects the batch at first."""
    limiter = EveryNth()
    limiter.unknown = {"cam0"}
    publish_many(valkey.bytes, 3)
    with reading(ReaderAndSettler(queue, limiter)) as thread:
        wait_until(lambda: len(limiter.batches) >= 3)
        limiter.unknown, limiter.paused = set(), {"cam0"}
        thread.join(60.0)
    assert accounting(valkey.bytes) == {"received": 3, "skipped:paused": 3}


def test_a_frame_whose_limit_nobody_tells_is_skipped(valkey: QueueServer, queue: Queue) -> None:
    """Once it is older than --max-age, with a reason of its own."""
    limiter = EveryNth()
    limiter.unknown = {"cam0"}
    limiter.sidecar_unreachable = True
    publish_many(valkey.bytes, 3)
    ReaderAndSettler(queue, limiter, max_age=1.0).run()
    assert accounting(valkey.bytes) == {"received": 3, "skipped:limit_unknown": 3}


def test_any_number_of_frames_is_skipped_when_the_limit_is_told(valkey: QueueServer, queue: Queue) -> None:
    """A script of Redis can't take the ids of all that a worker holds at once."""
    limiter = EveryNth()
    limiter.unknown = {"cam0"}
    limiter.sidecar_unreachable = True
    number = MOST_HELD + 200
    publish_many(valkey.bytes, number)
    parts = ReaderAndSettler(queue, limiter, batch_size=256)
    with reading(parts) as thread:
        wait_until(lambda: parts.metrics.registry.get_sample_value("hand_counter_waiting_for_limit") >= MOST_HELD)
        limiter.unknown, limiter.paused = set(), {"cam0"}
        limiter.sidecar_unreachable = False
        thread.join(60.0)
    assert accounting(valkey.bytes) == {"received": number, "skipped:paused": number}


def test_a_frame_that_waited_during_a_crash_is_decided_afterwards(valkey: QueueServer, queue: Queue) -> None:
    """It wasn't admitted in its earlier life, so it isn't counted unasked."""
    publish_many(valkey.bytes, 4)
    entries = queue.read(4)
    queue.set_deliveries({delivery.entry_id: 0 for delivery in entries})
    limiter = EveryNth(2)
    parts = ReaderAndSettler(queue, limiter)
    parts.run()
    assert [len(batch) for batch in limiter.batches] == [4]
    assert accounting(valkey.bytes) == {"received": 4, "counted": 2, "skipped:too_soon": 2}
    assert parts.metrics.registry.get_sample_value("hand_counter_redelivered_total") == 0


@pytest.mark.parametrize("told", [True, False])
def test_a_redelivered_frame_of_a_paused_stream_is_not_counted(valkey: QueueServer, queue: Queue, told: bool) -> None:
    """If nobody can say whether it is paused it waits, and the wait doesn't make it a suspect."""
    publish_many(valkey.bytes, 3)
    entries = queue.read(3)
    queue.take([delivery.entry_id for delivery in entries])
    limiter = EveryNth()
    limiter.paused = {"cam0"}
    if not told:
        limiter.unknown = {"cam0"}
        limiter.sidecar_unreachable = True
    parts = ReaderAndSettler(queue, limiter)
    with reading(parts) as thread:
        if not told:  # taken up one at a time, as suspects are
            wait_until(lambda: len(parts.held) == 1 and times_delivered(valkey) == [2, 2, 2])
            limiter.unknown = set()
            limiter.sidecar_unreachable = False
        thread.join(60.0)
    assert limiter.batches == []
    assert accounting(valkey.bytes) == {"received": 3, "skipped:paused": 3}


def test_unknown_streams_can_be_paced_instead(valkey: QueueServer, queue: Queue) -> None:
    """Then nothing waits."""
    limiter = EveryNth()
    limiter.unknown = {"cam0"}
    limiter.sidecar_unreachable = True
    publish_many(valkey.bytes, 3)
    ReaderAndSettler(queue, limiter, wait_for_limits=False).run()
    assert accounting(valkey.bytes) == {"received": 3, "counted": 3}


def test_a_stale_frame_is_not_decided(valkey: QueueServer, queue: Queue) -> None:
    """It would use up an admission of its stream."""
    publish_many(valkey.bytes, 5)
    limiter = EveryNth()
    ReaderAndSettler(queue, limiter, max_age=-1e9).run()
    assert all(batch == [] for batch in limiter.batches)
    assert accounting(valkey.bytes) == {"received": 5, "skipped:stale": 5}


def test_an_invalid_entry_is_dead_lettered_and_not_decided(valkey: QueueServer, queue: Queue) -> None:
    """The valid frame behind it is counted."""
    valkey.bytes.xadd(KEYS.frames, {"ts": "1", "frame": b"x"})
    publish(valkey.bytes, "cam", T0)
    limiter = EveryNth()
    ReaderAndSettler(queue, limiter).run()
    assert limiter.batches[0] == [("cam", T0)]
    assert accounting(valkey.bytes) == {"received": 2, "counted": 1, "dead:bad_stream_name": 1}


def test_an_expired_payload_is_a_skip(valkey: QueueServer, queue: Queue) -> None:
    """The frames around it are counted."""
    for i in range(3):
        publish(valkey.bytes, "cam", T0 + i)
    valkey.bytes.delete(KEYS.payload(f"cam:{T0 + 1!r}"))
    jobs = ReaderAndSettler(queue, EveryNth()).run()
    assert [job.frame.ts for job in jobs] == [T0, T0 + 2]
    assert accounting(valkey.bytes) == {"received": 3, "counted": 2, f"skipped:{SkipReason.PAYLOAD_EXPIRED}": 1}


def test_payloads_that_redis_refuses_are_fetched_later(valkey: QueueServer) -> None:
    """While the right to GET is missing nothing is skipped as expired; afterwards all frames are counted."""
    publish_many(valkey.bytes, 30)
    valkey.bytes.execute_command("ACL SETUSER", "blind", "on", ">SECRET", "~*", "+@all", "-get")
    commands = LossyCommands(valkey.url.replace("redis://", "redis://blind:SECRET@"))
    parts = ReaderAndSettler(Queue(commands, "me"), EveryNth())
    running = threading.Thread(target=parts.run)
    running.start()
    wait_until(lambda: "'get'" in commands.problem)
    assert "counted" not in accounting(valkey.bytes)
    valkey.bytes.execute_command("ACL SETUSER", "blind", "+get")
    running.join(60.0)
    assert not running.is_alive()
    assert accounting(valkey.bytes) == {"received": 30, "counted": 30}
    assert commands.problem == ""
    valkey.bytes.execute_command("ACL DELUSER", "blind")
    commands.close()


def test_a_key_that_holds_no_picture_is_a_dead_letter(valkey: QueueServer, queue: Queue) -> None:
    """It names the key; the frames around it are counted."""
    for i in range(3):
        publish(valkey.bytes, "cam", T0 + i)
    key = KEYS.payload(f"cam:{T0 + 1!r}")
    valkey.bytes.delete(key)
    valkey.bytes.rpush(key, "x")
    assert len(ReaderAndSettler(queue, EveryNth()).run()) == 2
    assert accounting(valkey.bytes) == {"received": 3, "counted": 2, "dead:bad_frame_key": 1}
    ((_, letter),) = valkey.bytes.xrange(KEYS.dead)
    assert key.encode()[:20] in letter[b"message"]


def test_a_stop_doesnt_wait_for_redis(valkey: QueueServer, commands: LossyCommands, queue: Queue) -> None:
    """If no command succeeds the reader still ends at once."""
    publish_many(valkey.bytes, 1)
    commands.lose = ["read"] * 1_000_000
    parts = ReaderAndSettler(queue, EveryNth(), drain=False)
    thread = threading.Thread(target=parts.reader.run)
    thread.start()
    wait_until(lambda: commands.done.count("read") >= 2)
    parts.stop.set()
    thread.join(60.0)
    assert not thread.is_alive()


def test_frames_that_wait_are_recalled_when_their_stream_is_paused(
    valkey: QueueServer, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if no further frame of the stream comes. Those of other streams go on waiting."""
    monkeypatch.setattr("worker.pipeline.reader.LOOK_FOR_PAUSES_S", 0.02)
    publish_many(valkey.bytes, 30, live=False)
    publish(valkey.bytes, "other", T0)
    limiter = EveryNth()
    parts = ReaderAndSettler(queue, limiter, threads=50, drain=False)
    thread = parts.read()
    wait_until(lambda: len(parts.dispatcher) == 31)
    limiter.paused = {"cam0"}
    wait_until(lambda: len(parts.dispatcher) == 1)
    parts.end(thread)
    assert accounting(valkey.bytes) == {"received": 31, "skipped:paused": 30}
    assert len(parts.held) == 1
