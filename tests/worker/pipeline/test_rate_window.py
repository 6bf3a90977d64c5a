"""Frames per second from frame to frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.rate_window import RateWindow


def window(times: list[float]) -> RateWindow:
    """A window that has noted these frames."""
    rates = RateWindow()
    for number, at in enumerate(times, 1):
        rates.note(at, number)
    return rates


@pytest.mark.parametrize("fps", [0.05, 0.25, 1.0, 7.3, 15.0, 30.0, 120.0])
@pytest.mark.parametrize("seconds", [3.0, 15.0, 60.0, 300.0])
def test_a_steady_rate_is_exact(fps: float, seconds: float) -> None:
    """At any time between two frames, once there are two."""
    times = [1e9 + i / fps for i in range(max(2, int(seconds * fps)))]
    rates = window(times)
    for part in (0.0, 0.3, 0.99):
        assert rates.fps(times[-1] + part / fps) == pytest.approx(fps, rel=1e-3)


def test_it_is_within_two_per_cent_of_a_count_over_the_window() -> None:
    """Ten seconds after a change the rate is the new one."""
    times = [i / 30 for i in range(900)]
    times += [30 + i / 10 for i in range(1, 120)]
    assert window(times).fps(times[-1]) == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize("times", [[], [5.0]])
def test_there_is_no_rate_of_fewer_than_two_frames(times: list[float]) -> None:
    """It isn't known yet."""
    assert window(times).fps(6.0) == 0.0


@pytest.mark.parametrize(
    ("fps", "quiet", "silent"),
    [(15.0, 4.9, False), (15.0, 5.0, True), (1.0, 5.0, True), (0.1, 5.0, False), (0.1, 19.0, False), (0.1, 20.1, True)],
)
def test_silence(fps: float, quiet: float, silent: bool) -> None:
    """Five seconds, or two usual distances of frames if that is longer."""
    times = [i / fps for i in range(100)]
    assert window(times).silent(times[-1] + quiet) is silent


def test_one_frame_is_silent_after_five_seconds() -> None:
    """No distance is known."""
    assert not window([10.0]).silent(14.0)
    assert window([10.0]).silent(15.0)


def test_totals_that_do_not_grow_are_ignored() -> None:
    """Replies of Redis may come out of order."""
    rates = window([1.0, 2.0, 3.0])
    rates.note(9.0, 2)
    assert rates.fps(3.0) == pytest.approx(1.0)


@given(st.lists(st.floats(0.001, 20.0), min_size=2, max_size=400), st.floats(0.0, 30.0))
def test_memory_and_values_are_bounded(gaps: list[float], later: float) -> None:
    """Whatever comes: no rate is negative or beyond the shortest gap's, and few marks are kept."""
    times, at = [], 0.0
    for gap in gaps:
        at += gap
        times.append(at)
    rates = window(times)
    assert 0.0 <= rates.fps(at + later) <= 1.0 / min(gaps) + 1e-6
    assert len(rates._marks) <= 52
