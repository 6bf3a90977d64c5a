"""The capture times of live sources."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("ahead", "shown"),
    [(-0.4, -0.4), (0.9, 0.9), (-1.1, 0.0), (1.1, 0.0), (-3600.0, 0.0), (-1.7e9, 0.0)],
)
def test_the_cameras_own_times(ahead: float, shown: float) -> None:
    """They count from the first report on, in the order in which frames are shown, unless its clock isn't synchronised."""
    now = 1.7e9
    source = ArrivalTimes(lambda: now)
    assert (source.arrives(5.0), source.ts(5.0)) == (now, now)
    now += 1.0
    source.told(6.0, now + ahead)
    assert source.arrives(6.0) == pytest.approx(now + shown)
    assert source.left_out(6.0) == pytest.approx(now + shown)
    now += 1.0
    assert source.arrives(7.0) == pytest.approx(now + shown)
    assert source.ts(6.9) == pytest.approx(
        now + shown - (0.1 if shown else 0.0)
    )  # stored before one that is shown later


def test_positions_that_begin_anew() -> None:
    """After a reconnection the time of arrival counts until the camera has told its own; so it does without a position."""
    now = 1.7e9
    source = ArrivalTimes(lambda: now)
    source.told(1000.0, now - 0.5)
    assert source.arrives(1000.0) == now - 0.5
    assert source.arrives(math.nan) == now
    source.told(math.nan, now - 0.7)
    assert source.arrives(1000.0) == now - 0.5
    source.begin()
    assert source.arrives(1000.0) == now


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.floats(-2, 2) | st.just(-1e6)), max_size=50))
def test_time_never_goes_back(steps: list[tuple[float, bool, float]]) -> None:
    """Whatever the camera tells, and however often it is lost."""
    now, before = 1.7e9, -math.inf
    source = ArrivalTimes(lambda: now)
    for gap, lost, ahead in steps:
        now += gap
        if lost:
            source.begin()
        source.told(now, now + ahead)
        source.arrives(now)
        ts = source.ts(now)
        assert ts > before
        assert abs(ts - now) < 1.1
        before = ts
