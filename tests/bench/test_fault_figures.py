"""The figures of bench.faults, computed from the times of its clients."""

import math

import pytest

from bench.fault_clients import Call, Record
from bench.faults import Round, figures

ROUNDS = [Round(0.0, 1.0, 2.0, 2.0, 1.99, 0.0, 0.0), Round(10.0, 11.0, 12.0, 11.5, 1.98, 0.0, 0.0)]


def record(slower: tuple[float, float]) -> Record:
    """Returns 200 calls per second of 1 ms each, slower by these factors in the two faults; limits take effect after 0.1 s."""
    calls = []
    for number in range(2600):
        at = number / 200
        factor = slower[0] if 1.0 <= at < 2.0 else slower[1] if 11.0 <= at < 12.0 else 1.0
        fps = 1.98 if at > 11.6 else 1.99 if at > 2.1 else 2.0
        calls.append(Call(at, factor / 1000, fps if number % 7 else math.nan))
    return Record(calls, [], 1.0)


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    """Each round is compared with itself."""
    row = figures(ROUNDS, record((2.0, 4.0)), record((1.0, 1.0)))
    assert row["ratio"] == pytest.approx(3.0)
    assert (row["least_ratio"], row["greatest_ratio"]) == (pytest.approx(2.0), pytest.approx(4.0))
    assert row["p99_before_ms"] == pytest.approx(1.0)
    assert row["calls"] == 200


def test_recovery_counts_from_a_healthy_redis() -> None:
    """It ends with the first answer that has the new limit for all of its frames."""
    assert figures(ROUNDS, record((1.0, 1.0)), record((1.0, 1.0)))["recovery_s"] == pytest.approx(0.1, abs=0.011)
