"""What limits ask for, and what full workers count."""

import math

import pytest

from console.control.capacity import asked_fps, full_rate, is_full
from console.control.states import State


@pytest.mark.parametrize(
    ("state", "limit", "source", "expected"),
    [
        (State.LIVE, 2.0, 25.0, 2.0),
        (State.LIVE, 50.0, 25.0, 25.0),
        (State.LIVE, math.inf, 25.0, 25.0),
        (State.LIVE, None, 25.0, 25.0),
        (State.BEHIND, 2.0, 25.0, 2.0),
        (State.LIVE, 2.0, None, 0.0),
        (State.SILENT, 2.0, 25.0, 0.0),
        (State.LOST, 2.0, 25.0, 0.0),
        (State.UNSEEN, 2.0, 25.0, 0.0),
        (State.PAUSED, 0.0, 25.0, 0.0),
    ],
)
def test_what_a_stream_asks_for(state: State, limit: float | None, source: float | None, expected: float) -> None:
    """No more than its camera delivers, and nothing if that is silent."""
    assert asked_fps(state, limit, source) == expected


@pytest.mark.parametrize(
    ("counted", "given_up", "expected"), [(10.0, 0.0, False), (10.0, 0.1, False), (10.0, 0.5, True), (0.0, 0.01, False)]
)
def test_full(counted: float, given_up: float, expected: bool) -> None:
    """A part of the admitted frames is given up, and not single ones."""
    assert is_full(counted, given_up) is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"counted": 10}, {"counted": 40, "skipped:superseded": 9}, 10.0),
        ({"counted": 10, "skipped:stale": 5}, {"counted": 40, "skipped:stale": 9}, 10.0),
        ({}, {"skipped:superseded": 9}, 0.0),
        ({"counted": 10}, {"counted": 40, "skipped:too_soon": 9}, None),
        ({"counted": 10}, {"counted": 40, "skipped:superseded": 1}, None),
        ({"counted": 10}, {"counted": 4, "skipped:superseded": 9}, None),
    ],
)
def test_what_full_workers_count(before: dict, after: dict, expected: float | None) -> None:
    """Known only while frames are given up; not if the counters were set back."""
    assert full_rate(before, after, 3.0) == expected
