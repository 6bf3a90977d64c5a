"""Repeating a step until Redis works."""

import threading

import pytest

from worker.pipeline.retry import StoppedError, until_redis_works
from worker.queue.commands import QueueUnreachableError


class Step:
    """Fails a number of times, then returns 7."""

    def __init__(self, failures: int, then: threading.Event | None = None) -> None:
        self.failures = failures
        self.then = then
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            if self.then:
                self.then.set()
            raise QueueUnreachableError("no reply")
        return 7


def test_a_step_is_repeated_until_it_succeeds() -> None:
    """Each further attempt shows that the thread is alive."""
    step, alive = Step(3), []
    assert until_redis_works(step, threading.Event(), lambda: alive.append(step.calls)) == 7
    assert alive == [1, 2, 3]


def test_a_step_that_succeeds_needs_no_repetition() -> None:
    """Also if the worker is stopping: what is begun is finished."""
    stop = threading.Event()
    stop.set()
    assert until_redis_works(Step(0), stop) == 7


def test_a_stop_ends_the_repetition() -> None:
    """Without another attempt."""
    stop = threading.Event()
    step = Step(10, then=stop)
    with pytest.raises(StoppedError):
        until_redis_works(step, stop)
    assert step.calls == 1


def test_other_errors_are_raised() -> None:
    """They aren't Redis' fault."""
    with pytest.raises(ZeroDivisionError):
        until_redis_works(lambda: 1 // 0, threading.Event())
