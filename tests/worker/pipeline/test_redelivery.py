"""Which deliveries are taken up again, and in which order."""

import queue as queues
from collections.abc import Sequence

import pytest
from support.pipelines import EveryNth, LossyCommands, ReaderAndSettler, pipeline_options
from support.processes.workers import T0, QueueServer, accounting, publish, publish_many
from support.waiting import wait_until

from worker.metrics import Metrics
from worker.pipeline.redelivery import Redelivery, sort_out
from worker.queue.commands import QueueUnreachableError
from worker.queue.consumer import Queue
from worker.queue.delivery import Counted, Delivery, Job
from worker.queue.held import Held


@pytest.mark.parametrize(
    ("waiting", "harmless", "suspects"),
    [
        ({}, [], []),
        ({"1": 1}, ["1"], []),
        ({"1": 2, "2": 1, "3": 5, "4": 0}, ["2", "4"], ["1", "3"]),
        ({"1": 2, "2": 3}, [], ["1", "2"]),
    ],
)
def test_sort_out(waiting: dict[str, int], harmless: list[str], suspects: list[str]) -> None:
    """Entries that have survived two crashes are suspects; all others are harmless."""
    assert sort_out(waiting) == (harmless, suspects)


def test_suspects_are_taken_up_one_at_a_time(
    valkey: QueueServer, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was delivered twice isn't taken up together with others."""
    publish_many(valkey.bytes, 4)
    entry_ids = [delivery.entry_id for delivery in queue.read(4)]
    queue.take(entry_ids[:3])
    taken: list[list[str]] = []
    take = queue.take

    def noted(entry_ids: Sequence[str], *_: object) -> list[Delivery]:
        deliveries = take(entry_ids)
        if deliveries:  # an entry that was settled since it was listed isn't taken up
            taken.append([delivery.entry_id for delivery in deliveries])
        return deliveries

    monkeypatch.setattr(queue, "take", noted)
    ReaderAndSettler(queue, EveryNth()).run()
    assert taken == [[entry_ids[3]], [entry_ids[0]], [entry_ids[1]], [entry_ids[2]]]


@pytest.mark.parametrize("streams", [1, 200])
def test_suspects_come_back_beside_a_load(
    valkey: QueueServer, queue: Queue, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """One at a time, but between new frames: the next one follows as soon as the one before is settled."""
    publish_many(valkey.bytes, 10, name="old")
    suspects = [delivery.entry_id for delivery in queue.read(10)]
    queue.take(suspects)
    publish_many(valkey.bytes, 200, streams, name="new")
    parts = ReaderAndSettler(queue, EveryNth(), threads=1, batch_size=200)
    order: list[str] = []

    class Done(list):
        """Notes the jobs. A suspect is settled before the next job is taken, a new frame takes until a suspect is there."""

        def append(self, job: Job) -> None:
            order.append(job.frame.stream_name[:3])
            assert sum(entry_id in parts.held for entry_id in suspects) <= 1
            if job.frame.entry_id in suspects:
                parts.settled.put(Counted(job.frame.entry_id, job.frame.stream_name, job.frame.ts, 1, "{}"))
                wait_until(lambda: job.frame.entry_id not in parts.held)
            elif order.count("old") < len(suspects):
                wait_until(lambda: any(entry_id in parts.held for entry_id in suspects))

    monkeypatch.setattr(parts, "done", Done())
    parts.run()
    assert order.count("old") == 10
    assert order.count("new") == 200
    assert "old" not in order[60:]  # they would be behind the 200 new ones, or wait for a turn behind 200 streams each
    assert order[:20].count("new") > 5, order
    assert accounting(valkey.bytes) == {"received": 210, "counted": 210}


def test_an_entry_that_was_delivered_too_often_is_dead_lettered(valkey: QueueServer, queue: Queue) -> None:
    """After --max-deliveries it isn't counted again."""
    publish(valkey.bytes, "cam", T0)
    (delivery,) = queue.read(1)
    for _ in range(2):
        queue.take([delivery.entry_id])
    assert ReaderAndSettler(queue, EveryNth()).run() == []
    assert accounting(valkey.bytes) == {"received": 1, "dead:failed": 1}


def redelivery(queue: Queue, **changes: float) -> Redelivery:
    """A redelivery that holds nothing."""
    return Redelivery(queue, Held(), queues.SimpleQueue(), Metrics(), pipeline_options(**changes))


def test_nothing_is_looked_for_unless_it_is_expected(
    valkey: QueueServer, commands: LossyCommands, queue: Queue
) -> None:
    """At the start something is; once Redis lists nothing, it isn't asked again."""
    publish_many(valkey.bytes, 2)
    queue.read(2)
    mine = redelivery(queue)
    assert mine.expected
    assert len(mine.take()) == 2
    assert mine.take() == []
    assert not mine.expected
    before = len(commands.done)
    assert mine.take() == []
    assert len(commands.done) == before


def test_adoption_is_tried_twice_per_claim_idle(valkey: QueueServer, commands: LossyCommands, queue: Queue) -> None:
    """A second call within that time sends nothing; adopted entries are expected."""
    publish_many(valkey.bytes, 1)
    (delivery,) = queue.read(1)
    queue.release([delivery.entry_id])
    mine = redelivery(queue, claim_idle=3600.0)
    mine.expected = False
    mine.adopt()
    assert mine.expected
    before = len(commands.done)
    mine.adopt()
    assert len(commands.done) == before


def test_an_adoption_that_failed_is_tried_again(valkey: QueueServer, commands: LossyCommands, queue: Queue) -> None:
    """The next call doesn't wait for another half of --claim-idle."""
    publish_many(valkey.bytes, 1)
    commands.lose = ["adopt"]
    mine = redelivery(queue)
    with pytest.raises(QueueUnreachableError):
        mine.adopt()
    mine.adopt()
    assert commands.done.count("adopt") == 2
