"""Redis' clock between the replies that tell it."""

import time

import pytest

from worker.queue.redis_clock import RedisClock

NOW = 1_700_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> RedisClock:
    """A clock that has seen a reply at the machine's 100.0."""
    clock = RedisClock()
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    clock.set(b"%d" % NOW, b"0")
    return clock


def test_it_goes_on_between_replies(clock: RedisClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pace of the machine's clock."""
    monkeypatch.setattr(time, "monotonic", lambda: 102.5)
    assert clock.now() == NOW + 2.5


@pytest.mark.parametrize(
    ("told", "step"),
    [(0.0, 0.0), (0.75, 0.0), (-0.75, 0.0), (1.0, 0.0), (1.25, 1.25), (-3600.0, -3600.0), (86400.5, 86400.5)],
)
def test_a_large_difference_is_a_step(clock: RedisClock, told: float, step: float) -> None:
    """A small one is the delay of a reply. The time in the last reply holds in either case."""
    seconds, fraction = divmod(NOW + told, 1)
    assert clock.set(b"%d" % seconds, b"%d" % (fraction * 1e6)) == step
    assert clock.now() == NOW + told


def test_without_a_reply_it_is_the_clock_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker asks for the time before its first read, too."""
    monkeypatch.setattr(time, "time", lambda: NOW + 7.0)
    assert RedisClock().now() == pytest.approx(NOW + 7.0, abs=60.0)
