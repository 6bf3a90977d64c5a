"""All threads of a worker together, with a real Valkey: how they end."""

import logging
import threading
from collections.abc import Callable

import numpy as np
import pytest
import redis
from support.models.fake_detector import ONE_HAND, FakeDetector
from support.pipelines import EveryNth, LossyCommands, pipeline_options
from support.processes.workers import QueueServer, accounting, balance, pending, publish_many
from support.waiting import wait_until

from worker.hands.detection import HandDetector, Hands
from worker.metrics import Metrics
from worker.pipeline.pipeline import Pipeline
from worker.queue.consumer import Queue


class Gate:
    """Finds one hand in each frame, once it is open."""

    name = "gate"
    engine = "fake"

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.open = threading.Event()

    def detect(self, image: np.ndarray) -> Hands:  # noqa: ARG002
        self.inside.set()
        self.open.wait(60.0)
        return ONE_HAND


class BrokenLimiter:
    """Fails in a way that nothing expects."""

    def decide_known(self, frames: object) -> list:  # noqa: ARG002
        raise RuntimeError("broken")


def pipeline(commands: LossyCommands, *detectors: HandDetector, drain: bool = True, limiter: object = None) -> Pipeline:
    """A pipeline with a decoding thread for each detector."""
    return Pipeline(Queue(commands, "me"), limiter or EveryNth(), detectors, Metrics(), pipeline_options(drain=drain))


def test_a_drained_queue_ends_the_pipeline(valkey: QueueServer, commands: LossyCommands) -> None:
    """Everything is settled before the consumer leaves."""
    publish_many(valkey.bytes, 50, streams=5)
    parts = pipeline(commands, FakeDetector(), FakeDetector())
    parts.start()
    assert parts.done.wait(60.0)
    parts.stop(60.0)
    assert not parts.failed
    assert accounting(valkey.bytes) == {"received": 50, "counted": 50}
    assert balance(valkey.bytes) == pending(valkey.bytes) == 0
    assert commands.done[-1] == "retire"


def test_a_stop_within_the_grace_period_settles_what_is_in_progress(
    valkey: QueueServer, commands: LossyCommands
) -> None:
    """Frames that no thread has begun are released; the others are counted."""
    publish_many(valkey.bytes, 10)
    gate = Gate()
    parts = pipeline(commands, gate, drain=False)
    parts.start()
    assert gate.inside.wait(60.0)
    wait_until(lambda: pending(valkey.bytes) == 10)
    stopping = threading.Thread(target=parts.stop, args=(60.0,))
    stopping.start()
    gate.open.set()
    stopping.join(60.0)
    assert not stopping.is_alive()
    left = pending(valkey.bytes)
    fields = accounting(valkey.bytes)
    assert 0 < fields["counted"] == 10 - left
    assert ("set_idle" in commands.done) == (left > 0)


def test_a_stop_beyond_the_grace_period_releases_what_is_in_progress(
    valkey: QueueServer, commands: LossyCommands, caplog: pytest.LogCaptureFixture
) -> None:
    """It doesn't wait for a thread that is stuck; other workers may adopt the frame at once."""
    publish_many(valkey.bytes, 10)
    gate = Gate()
    parts = pipeline(commands, gate, drain=False)
    parts.start()
    assert gate.inside.wait(60.0)
    wait_until(lambda: pending(valkey.bytes) == 10)
    with caplog.at_level(logging.WARNING):
        parts.stop(0.2)
    assert accounting(valkey.bytes) == {"received": 10}
    assert pending(valkey.bytes) == 10
    assert caplog.messages[-1] == "some deliveries were not settled and will be delivered again"
    assert caplog.records[-1].entries == 10
    other = Queue(commands, "other")
    assert other.adopt(3600.0) == 10
    gate.open.set()


def test_a_stop_without_redis_leaves_the_rest_to_adoption(
    valkey: QueueServer, commands: LossyCommands, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends all the same."""
    publish_many(valkey.bytes, 1)
    gate = Gate()
    parts = pipeline(commands, gate, drain=False)
    parts.start()
    assert gate.inside.wait(60.0)
    commands.lose = ["set_idle"]
    with caplog.at_level(logging.WARNING):
        parts.stop(0.2)
    assert commands.lose == []
    assert caplog.records[-1].entries == 1
    gate.open.set()


@pytest.mark.parametrize("frozen", [("settle", "set_idle"), ("set_idle",)])
def test_a_stop_doesnt_wait_for_a_frozen_redis(
    valkey: QueueServer,
    commands: LossyCommands,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    frozen: tuple[str, ...],
) -> None:
    """It ends while commands still wait for their replies; other workers adopt what is held."""
    publish_many(valkey.bytes, 3)
    monkeypatch.setattr("worker.pipeline.pipeline.UNANSWERED_GRACE_S", 0.1)
    thawed, waiting = threading.Event(), threading.Event()
    call = commands.call

    def call_frozen(name: str, command: Callable[[redis.Redis], object]) -> object:
        if name in frozen:
            waiting.set()
            assert thawed.wait(60.0)
        return call(name, command)

    monkeypatch.setattr(commands, "call", call_frozen)
    gate = Gate()
    parts = pipeline(commands, gate, drain=False)
    parts.start()
    assert gate.inside.wait(60.0)
    if "settle" in frozen:
        gate.open.set()
        assert waiting.wait(60.0)
    with caplog.at_level(logging.WARNING):
        parts.stop(0.2)
    assert "Redis doesn't answer" in caplog.messages[-1]
    assert waiting.is_set()
    thawed.set()
    gate.open.set()


def test_a_failed_thread_ends_the_worker(
    valkey: QueueServer, commands: LossyCommands, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback in the log; what was received stays pending and is delivered again."""
    publish_many(valkey.bytes, 3)
    parts = pipeline(commands, FakeDetector(), drain=False, limiter=BrokenLimiter())
    with caplog.at_level(logging.ERROR):
        parts.start()
        assert parts.done.wait(60.0)
    assert parts.failed
    (record,) = (record for record in caplog.records if record.msg == "a thread failed; stopping")
    assert record.failed_thread == "reader"
    assert "RuntimeError: broken" in caplog.text
    parts.stop(60.0)
    assert pending(valkey.bytes) == balance(valkey.bytes) == 3


def test_stuck_seconds_are_those_of_the_slowest_part(valkey: QueueServer, commands: LossyCommands) -> None:
    """A frame that is stuck shows although the reader continues."""
    publish_many(valkey.bytes, 1)
    gate = Gate()
    parts = pipeline(commands, gate, drain=False)
    parts.start()
    assert gate.inside.wait(60.0)
    busy = parts._stages.in_progress.longest_seconds
    wait_until(lambda: busy() > 1.5)  # the reader goes round every 0.5 s
    before = busy()
    assert parts.stuck_seconds() >= before
    gate.open.set()
    parts.stop(60.0)
