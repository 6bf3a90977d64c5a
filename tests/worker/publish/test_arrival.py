"""The capture times of live sources."""

import itertools
import math

import pytest

from worker.publish.arrival import ArrivalTimes


@pytest.mark.parametrize(
    ("arrivals", "times"),
    [
        ([1.0, 1.5, 2.0], [1.0, 1.5, 2.0]),
        ([1.0, 1.0, 1.0], [1.0, 1.0001, 1.0002]),  # frames that come together
        ([5.0, 4.9, 5.2], [5.0, 5.0001, 5.2]),  # the machine's clock is corrected
        ([5000.0, 10.0, 10.5], [5000.0, 10.0, 10.5]),  # it is set anew
    ],
)
def test_times(arrivals: list[float], times: list[float]) -> None:
    """Capture times are those of arrival and increase, unless this machine's clock is set back by more than 2 s."""
    clock = iter(arrivals)
    source = ArrivalTimes(lambda: next(clock))
    taken = []
    for arrival in arrivals:
        assert source.arrives(math.nan) == arrival
        assert source.left_out(math.nan) == arrival
        taken.append(source.ts(math.nan))
    assert taken == pytest.approx(times, abs=1e-9)
    assert all(later != earlier for earlier, later in itertools.pairwise(taken))
