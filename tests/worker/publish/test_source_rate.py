"""How fast a source is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.publish.source_rate import NEWEST, SourceRate


def seen(*tss: float, now: float = 0.0) -> SourceRate:
    """A source with these frames, the last of which came now."""
    rate = SourceRate()
    for ts in tss:
        rate.see(ts, now)
    return rate


@pytest.mark.parametrize(
    ("tss", "fps"),
    [
        ((), 0.0),
        ((5.0,), 0.0),
        ((5.0, 5.5), 2.0),
        ([100.0 + index / 25 for index in range(200)], 25.0),
        ([index / 29.97 for index in range(200)], 30.0),
        ([index * 10.0 for index in range(5)], 0.1),
        ([*(index / 25 for index in range(200)), 0.0, 0.1, 0.2], 10.0),  # the clock restarted
        ([5.0, 5.0], 0.0),  # the same ts again
        (
            [0.0, *(index / 25 for group in range(1, 200, 3) for index in (group + 2, group, group + 1))],
            25.0,
        ),  # B frames
        ([*(index / 25 for index in range(200)), *(8.0 + index / 5 for index in range(NEWEST))], 5.0),
    ],
)
def test_the_rate(tss: tuple[float, ...], fps: float) -> None:
    """By the frames' own clock, whatever real time says, with three digits."""
    assert seen(*tss).fps(0.0) == fps


def test_silence() -> None:
    """It is nothing at present; a slow source isn't silent between two frames."""
    assert seen(0.0, 0.04, now=100.0).fps(105.0) == 25.0
    assert seen(0.0, 0.04, now=100.0).fps(105.1) == 0.0
    assert seen(0.0, 10.0, now=100.0).fps(130.0) == 0.1
    assert seen(0.0, 10.0, now=100.0).fps(130.1) == 0.0


def test_a_little_jitter_is_not_news() -> None:
    """So that nobody is told of it each second."""
    rate = seen(0.0, 1.0)
    assert rate.fps(0.0) == 1.0
    rate.see(2.01, 0.0)
    assert rate.fps(0.0) == 1.0
    rate.see(3.2, 0.0)
    assert rate.fps(0.0) == 0.938


@given(st.lists(st.floats(0.0, 1e11), max_size=100))
def test_any_times(tss: list[float]) -> None:
    """A rate is finite and not negative, so it can always be told."""
    assert 0.0 <= seen(*tss).fps(0.0) < float("inf")
