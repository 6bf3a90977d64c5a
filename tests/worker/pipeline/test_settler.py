"""The settler, with a queue in memory that fails on demand."""

import queue as queues
import threading
from collections.abc import Sequence

from support.waiting import wait_until

from worker.metrics import Metrics
from worker.pipeline.settler import MOST_AT_ONCE, Settler
from worker.pipeline.stream_stats import StreamStats
from worker.queue.commands import QueueUnreachableError
from worker.queue.delivery import Counted, Dead, Delivery, Settled, Skipped, without
from worker.queue.frame import DeadReason, SkipReason
from worker.queue.held import Held
from worker.queue.stream_update import StreamUpdate

COUNTED = Counted("1-1", "cam", 1.0, 3, "{}")
DEAD = Dead("1-2", DeadReason.UNDECODABLE, "no picture", ())
STALE = Skipped("1-3", SkipReason.STALE)
EXPIRED = Skipped("1-4", SkipReason.PAYLOAD_EXPIRED)


class MemoryQueue:
    """Notes what is settled. Fails at the first commands, as many as `failures`."""

    def __init__(self, failures: int = 0, pending: bool = True) -> None:
        self.failures = failures
        self.pending = pending
        self.settled: list[Counted | Dead] = []
        self.skipped: list[Skipped] = []
        self.updates: list[StreamUpdate] = []
        self.extended: list[list[str]] = []
        self.unreachable: set[str] = set()
        """The ids of entries whose partition can't be reached, unlike the others'."""

    def skip(self, deliveries: Sequence[Skipped], left: list[Skipped]) -> dict[SkipReason, int]:
        self._fail()
        left += [each for each in deliveries if each.entry_id in self.unreachable]
        deliveries = without(deliveries, left)
        self.skipped += deliveries
        reasons = [each.reason for each in deliveries]
        return {reason: reasons.count(reason) if self.pending else 0 for reason in reasons}

    def settle(
        self, deliveries: Sequence[Counted | Dead], updates: Sequence[StreamUpdate], left: list[Counted | Dead]
    ) -> list[bool]:
        self._fail()
        left += [each for each in deliveries if each.entry_id in self.unreachable]
        self.settled += without(deliveries, left)
        self.updates += updates
        return [self.pending and each not in left for each in deliveries]

    def extend_hold(self, entry_ids: Sequence[str]) -> None:
        self._fail()
        self.extended.append(sorted(entry_ids))

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise QueueUnreachableError("no reply")


class Parts:
    """A settler and its neighbours."""

    def __init__(self, queue: MemoryQueue, *settled: Settled | None, claim_idle: float = 3600.0) -> None:
        self.held = Held()
        self.metrics = Metrics()
        self.abandon = threading.Event()
        self.held.add(Delivery(each.entry_id, {}, 1) for each in settled if each)
        self.settled: queues.SimpleQueue[Settled | None] = queues.SimpleQueue()
        for each in settled:
            self.settled.put(each)
        self.settler = Settler(
            queue,  # type: ignore[arg-type]
            self.held,
            self.settled,
            self.metrics,
            StreamStats(10, lambda: 1000.0),
            self.abandon,
            claim_idle=claim_idle,
        )

    def value(self, name: str, **labels: str) -> float:
        """A sample of the metrics."""
        return self.metrics.registry.get_sample_value(f"hand_counter_{name}_total", labels) or 0.0


def test_each_kind_is_settled_in_its_way() -> None:
    """Skips by their reason, the others one by one; afterwards nothing is held."""
    queue = MemoryQueue()
    parts = Parts(queue, COUNTED, STALE, DEAD, EXPIRED, None)
    parts.settler.run()
    assert queue.settled == [COUNTED, DEAD]
    assert queue.skipped == [STALE, EXPIRED]
    assert len(parts.held) == 0
    assert (parts.value("counted"), parts.value("hands")) == (1, 3)
    assert parts.value("dead", reason="undecodable") == 1
    assert parts.value("skipped", reason="stale") == parts.value("skipped", reason="payload_expired") == 1


def test_what_another_worker_settled_is_not_observed() -> None:
    """The first to settle an entry wins; the metrics of the second don't count it."""
    parts = Parts(MemoryQueue(pending=False), COUNTED, STALE, DEAD, None)
    parts.settler.run()
    assert len(parts.held) == 0
    assert (parts.value("counted"), parts.value("hands")) == (0, 0)
    assert parts.value("dead", reason="undecodable") == parts.value("skipped", reason="stale") == 0


def test_failed_commands_are_repeated() -> None:
    """Until all is settled, in the same batch."""
    queue = MemoryQueue(failures=3)
    parts = Parts(queue, STALE, COUNTED, None)
    parts.settler.run()
    assert queue.settled == [COUNTED]
    assert queue.skipped == [STALE]
    assert len(parts.held) == 0
    assert parts.value("counted") == parts.value("skipped", reason="stale") == 1


def test_a_batch_is_bounded() -> None:
    """So that no script blocks Redis for long."""
    queue = MemoryQueue()
    sizes: list[int] = []
    settle = queue.settle
    queue.settle = lambda given, updates, left: sizes.append(len(given)) or settle(given, updates, left)  # type: ignore[method-assign,func-returns-value]
    Parts(queue, *[COUNTED] * (2 * MOST_AT_ONCE + 1), None).settler.run()
    assert sizes == [MOST_AT_ONCE, MOST_AT_ONCE, 1]


def test_what_can_not_be_reached_is_left_for_later() -> None:
    """And holds up nothing: the rest is written, and no longer held."""
    queue = MemoryQueue()
    queue.unreachable = {COUNTED.entry_id, STALE.entry_id}
    parts = Parts(queue, COUNTED, STALE, DEAD, None)
    thread = threading.Thread(target=parts.settler.run)
    thread.start()
    wait_until(lambda: queue.settled == [DEAD], "the rest is written")
    wait_until(lambda: DEAD.entry_id not in parts.held, "the rest isn't held")
    assert sorted(parts.held.snapshot()) == sorted([COUNTED.entry_id, STALE.entry_id])
    queue.unreachable = set()
    thread.join(60.0)
    assert queue.settled == [DEAD, COUNTED]
    assert queue.skipped == [STALE]
    assert not parts.held.snapshot()
    assert parts.metrics.total(parts.metrics.skipped) == 1


def test_it_gives_up_when_abandoned() -> None:
    """With Redis unreachable it ends, and what isn't settled stays held."""
    parts = Parts(MemoryQueue(failures=1_000_000), COUNTED, None)
    thread = threading.Thread(target=parts.settler.run)
    thread.start()
    parts.abandon.set()
    thread.join(60.0)
    assert not thread.is_alive()
    assert len(parts.held) == 1


def test_the_hold_is_extended_while_frames_are_counted() -> None:
    """What is held and not settled yet is kept from other workers."""
    queue = MemoryQueue()
    parts = Parts(queue, COUNTED, claim_idle=1e-9)
    parts.held.add([Delivery("9-9", {}, 1)])
    thread = threading.Thread(target=parts.settler.run)
    thread.start()
    while ["9-9"] not in queue.extended:
        assert thread.is_alive()
    parts.settled.put(None)
    thread.join(60.0)
    assert not thread.is_alive()


def test_nothing_is_extended_if_nothing_is_held() -> None:
    """No command is sent."""
    queue = MemoryQueue()
    Parts(queue, None, claim_idle=1e-9).settler.run()
    assert queue.extended == []
