"""The reader and the settler, with a real Valkey whose replies get lost."""

import queue as queues
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from support.processes.workers import KEYS, T0, QueueServer, accounting, balance, pending, publish, publish_many
from support.waiting import wait_until

from handcounter.pacing.schedule import Reason
from worker.metrics import Metrics
from worker.pipeline.reader import Reader
from worker.pipeline.settler import Settler
from worker.queue.consumer import Queue, QueueAwayError
from worker.queue.delivery import Ending, Held, Job, Skip, counted
from worker.queue.frame import SkipReason
from worker.queue.redis_client import connect


class LossyQueue(Queue):
    """Notes what is done, and loses the reply of what it is told to, after it was done."""

    def __init__(self, url: str) -> None:
        super().__init__(connect(url), KEYS, "me")
        self.done: list[str] = []
        self.lose: list[str] = []

    def _call(self, what: str, command: Any) -> Any:
        reply = super()._call(what, command)
        last = self.done[-1] if self.done else ""
        if last in self.lose:
            self.lose.remove(last)
            raise QueueAwayError(f"the reply of {last} was lost")
        return reply

    def _run(self, script: str, keys: Sequence[str], *args: object) -> Any:
        self.done.append(script)
        return super()._run(script, keys, *args)

    def payloads(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Fetches."""
        self.done.append(f"payloads {len(keys)}")
        return super().payloads(keys)


class Limiter:
    """Admits every n-th frame of a batch, and notes the batches."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.batches: list[list[tuple[str, float]]] = []

    def decide(self, frames: Sequence[tuple[str, float]]) -> list[Reason]:
        """Decides."""
        self.batches.append(list(frames))
        return [Reason.TOO_SOON if i % self.every else Reason.ADMITTED for i in range(len(frames))]


@pytest.fixture
def queue(valkey: QueueServer) -> Iterator[LossyQueue]:
    """The queue."""
    queue = LossyQueue(valkey.url)
    yield queue
    queue.close()


class Bench:
    """A reader and all that it talks to; jobs are ended as counted by a thread."""

    def __init__(self, queue: LossyQueue, limiter: Limiter, room: int = 4, **changes: Any) -> None:
        self.held = Held()
        self.jobs: queues.Queue[Job | None] = queues.Queue(room)
        self.endings: queues.SimpleQueue[Ending | Skip | None] = queues.SimpleQueue()
        self.metrics = Metrics()
        self.stop = threading.Event()
        options = {"batch_size": 100, "max_age": 1e9, "claim_idle": 3600.0, "max_deliveries": 3, "drain": True}
        self.reader = Reader(
            queue, limiter, self.held, self.jobs, self.endings, self.metrics, self.stop, **{**options, **changes}
        )
        self.settler = Settler(queue, self.held, self.endings, self.metrics, threading.Event(), claim_idle=3600.0)
        self.done: list[Job] = []

    def run(self) -> list[Job]:
        """Drains the queue; gives the jobs in their order."""
        threads = [threading.Thread(target=self._count), threading.Thread(target=self.settler.run)]
        for thread in threads:
            thread.start()
        self.reader.run()
        self.jobs.put(None)
        threads[0].join()
        self.endings.put(None)
        threads[1].join()
        assert len(self.held) == 0
        return self.done

    def _count(self) -> None:
        while (job := self.jobs.get()) is not None:
            self.done.append(job)
            self.endings.put(counted(job.frame.entry_id, job.frame.stream_name, job.frame.ts, "{}", 1))


def test_one_decision_per_batch_and_skips_before_payloads(valkey: QueueServer, queue: LossyQueue) -> None:
    """Skips are acknowledged in one call before the first payload is fetched, and those only as there is room."""
    publish_many(valkey.bytes, 60)
    limiter = Limiter(every=6)
    jobs = Bench(queue, limiter).run()
    assert [len(batch) for batch in limiter.batches] == [60]
    assert [job.frame.ts for job in jobs] == [T0 + i / 30 for i in range(0, 60, 6)]
    steps = [step for step in queue.done if step in ("skip", "read") or step.startswith("payloads")]
    assert steps[:5] == ["read", "skip", "payloads 4", "payloads 4", "payloads 2"]
    assert accounting(valkey.bytes) == {"received": 60, "counted": 10, "skipped:too_soon": 50}


@pytest.mark.parametrize("lost", ["read", "skip", "payloads 4", "settle", "take", "adopt"])
def test_a_lost_reply_loses_nothing_and_counts_nothing_twice(valkey: QueueServer, queue: LossyQueue, lost: str) -> None:
    """Redis did what it was told but the reply never came: every entry still ends exactly once, without a wait."""
    publish_many(valkey.bytes, 60)
    queue.lose = ["read", "take"] if lost == "take" else [lost]
    bench = Bench(queue, Limiter(every=6))
    bench.run()
    assert queue.lose == []
    fields = accounting(valkey.bytes)
    assert fields["received"] == 60
    assert balance(valkey.bytes) == pending(valkey.bytes) == 0
    assert valkey.bytes.xlen(KEYS.counts) == fields["counted"]
    # What was delivered again is processed without being asked about; else a sixth is admitted.
    assert fields["counted"] == (60 if lost in ("read", "take") else 10)


def test_what_is_delivered_again_is_not_asked_about(valkey: QueueServer, queue: LossyQueue) -> None:
    """Fresh: processed. Old: skipped as stale, without a fetch."""
    for max_age, ending in ((1e9, "counted"), (-1e9, "skipped:stale")):
        valkey.bytes.flushall()
        publish_many(valkey.bytes, 5)
        queue.read(5)
        limiter = Limiter()
        bench = Bench(queue, limiter, max_age=max_age)
        queue.done.clear()
        bench.run()
        assert limiter.batches == []
        assert accounting(valkey.bytes) == {"received": 5, ending: 5}
        assert any(step.startswith("payloads") for step in queue.done) == (ending == "counted")


def test_what_is_old_costs_no_admission(valkey: QueueServer, queue: LossyQueue) -> None:
    """Stale frames aren't in the batch that is decided."""
    publish_many(valkey.bytes, 5)
    limiter = Limiter()
    Bench(queue, limiter, max_age=-1e9).run()
    assert all(batch == [] for batch in limiter.batches)
    assert accounting(valkey.bytes) == {"received": 5, "skipped:stale": 5}


def test_suspects_are_taken_up_one_at_a_time(valkey: QueueServer, queue: LossyQueue) -> None:
    """What was delivered twice already isn't taken together with others."""
    publish_many(valkey.bytes, 4)
    entry_ids = [delivery.entry_id for delivery in queue.read(4)]
    queue.take(entry_ids[:3])
    taken: list[list[str]] = []
    original = queue.take
    queue.take = lambda ids: taken.append(list(ids)) or original(ids)  # type: ignore[method-assign,func-returns-value]
    Bench(queue, Limiter()).run()
    assert taken == [[entry_ids[3]], [entry_ids[0]], [entry_ids[1]], [entry_ids[2]]]


def test_what_has_worn_out_its_deliveries_is_dead(valkey: QueueServer, queue: LossyQueue) -> None:
    """After --max-deliveries the entry is given up instead of being processed."""
    publish(valkey.bytes, "cam", T0)
    (delivery,) = queue.read(1)
    for _ in range(2):
        queue.take([delivery.entry_id])
    assert Bench(queue, Limiter()).run() == []
    assert accounting(valkey.bytes) == {"received": 1, "dead:failed": 1}


def test_a_stop_doesnt_wait_for_room(valkey: QueueServer, queue: LossyQueue) -> None:
    """With all threads busy the reader ends at once; what it held stays pending."""
    publish_many(valkey.bytes, 10)
    bench = Bench(queue, Limiter(), room=2, drain=False)
    thread = threading.Thread(target=bench.reader.run)
    thread.start()
    wait_until(bench.jobs.full)
    bench.stop.set()
    thread.join(60.0)
    assert not thread.is_alive()
    assert len(bench.held) == pending(valkey.bytes) == 10


def test_nothing_more_is_read_where_nothing_gets_written(
    valkey: QueueServer, queue: LossyQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too much held the reader leaves the rest to others, and goes on as soon as endings were written."""
    monkeypatch.setattr("worker.pipeline.reader.MOST_HELD", 10)
    monkeypatch.setattr("worker.pipeline.reader.WAIT_S", 0.01)
    publish_many(valkey.bytes, 30)
    bench = Bench(queue, Limiter(), room=100, batch_size=5, drain=False)
    thread = threading.Thread(target=bench.reader.run)
    thread.start()
    wait_until(lambda: len(bench.held) == 10)
    turned_at = bench.reader.turned_at
    wait_until(lambda: bench.reader.turned_at > turned_at)
    assert pending(valkey.bytes) == bench.jobs.qsize() == 10
    bench.held.remove(bench.held.snapshot()[:5])
    wait_until(lambda: bench.jobs.qsize() == 15)
    bench.stop.set()
    thread.join(60.0)
    assert not thread.is_alive()


def test_a_payload_that_expired_is_a_skip(valkey: QueueServer, queue: LossyQueue) -> None:
    """The frames around it are counted."""
    for i in range(3):
        publish(valkey.bytes, "cam", T0 + i)
    valkey.bytes.delete(KEYS.payload(f"cam:{T0 + 1!r}"))
    jobs = Bench(queue, Limiter()).run()
    assert [job.frame.ts for job in jobs] == [T0, T0 + 2]
    assert accounting(valkey.bytes) == {"received": 3, "counted": 2, f"skipped:{SkipReason.PAYLOAD_EXPIRED}": 1}
