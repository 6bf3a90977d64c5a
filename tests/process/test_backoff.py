"""Delays between attempts."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.backoff import FULL, HALF, Backoff


@pytest.mark.parametrize(
    ("first_s", "longest_s", "delays"),
    [
        (0.2, 5.0, [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]),
        (0.05, 1.0, [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (0.02, 0.5, [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]),
        (3.0, 3.0, [3.0, 3.0]),
    ],
)
def test_delays_double_up_to_the_limit(first_s: float, longest_s: float, delays: list[float]) -> None:
    """Without jitter each delay is twice the one before, and never above the limit."""
    backoff = Backoff(first_s, longest_s, jitter=0.0)
    assert [backoff.next() for _ in delays] == pytest.approx(delays)


@given(
    first_s=st.floats(1e-3, 10.0),
    factor=st.floats(1.0, 1000.0),
    jitter=st.sampled_from([HALF, FULL]),
    attempts=st.integers(1, 50),
    seed=st.integers(0, 100),
)
def test_jitter_only_shortens(first_s: float, factor: float, jitter: float, attempts: int, seed: int) -> None:
    """Each delay lies between its random part and the delay without jitter, however many attempts fail."""
    steady = Backoff(first_s, first_s * factor, jitter=0.0)
    jittered = Backoff(first_s, first_s * factor, jitter=jitter, rng=random.Random(seed))
    for attempt in range(attempts):
        assert jittered.failures == attempt
        full_s = steady.next()
        delay_s = jittered.next()
        assert full_s * (1.0 - jitter) <= delay_s <= full_s <= first_s * factor


def test_clients_dont_return_together() -> None:
    """Two clients that failed equally often wait for different times."""
    first, second = Backoff(), Backoff()
    assert [first.next() for _ in range(5)] != [second.next() for _ in range(5)]


def test_a_success_starts_over() -> None:
    """After a reset the first delay comes again, and the count of failures is 0."""
    backoff = Backoff(0.2, 5.0, jitter=0.0)
    for _ in range(4):
        backoff.next()
    assert backoff.failures == 4
    backoff.reset()
    assert backoff.failures == 0
    assert [backoff.next(), backoff.next()] == [0.2, 0.4]


@pytest.mark.parametrize(
    ("first_s", "longest_s", "jitter"),
    [(0.0, 1.0, HALF), (-1.0, 1.0, HALF), (2.0, 1.0, HALF), (math.nan, 1.0, HALF), (1.0, 2.0, 1.5), (1.0, 2.0, -0.1)],
)
def test_invalid_delays_are_rejected(first_s: float, longest_s: float, jitter: float) -> None:
    """A delay of nothing would become a loop without a pause."""
    with pytest.raises(ValueError, match=r"first_s|jitter"):
        Backoff(first_s, longest_s, jitter=jitter)
