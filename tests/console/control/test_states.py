"""What a stream does, by what is known of it."""

import math

import pytest

from console.control.states import Signs, State, state_of

NOW = 1_700_000_000.0
LIVE, PAUSED, SILENT, LOST, BEHIND, UNSEEN = State
FRESH = {"heard_at": NOW - 0.1, "counted_at": NOW - 0.5, "admitted": 10, "counted": 10}
UNCOUNTED = {"heard_at": NOW - 0.1, "counted_at": NOW - 60.0, "admitted": 20, "counted": 10}


@pytest.mark.parametrize(
    ("limit", "signs", "state"),
    [
        (2.0, FRESH, LIVE),
        (None, FRESH, LIVE),
        (math.inf, FRESH, LIVE),
        (2.0, {"heard_at": NOW - 9.9}, LIVE),
        (2.0, {"heard_at": NOW - 10.1}, SILENT),
        (0.1, {"heard_at": NOW - 29.0}, LIVE),
        (0.1, {"heard_at": NOW - 31.0}, SILENT),
        (2.0, {"heard_at": NOW - 9.0, "reported_fps": 25.0}, LIVE),
        (2.0, {"heard_at": NOW - 60.0, "reported_fps": 25.0}, BEHIND),
        (2.0, {"heard_at": NOW - 60.0, "reported_fps": 25.0, "reported_since": NOW - 1.0}, LIVE),
        (2.0, {"reported_fps": 25.0, "reported_since": NOW - 60.0}, BEHIND),
        (0.01, {"heard_at": NOW - 60.0, "reported_fps": 25.0}, LIVE),
        (None, {"heard_at": NOW - 60.0, "reported_fps": 25.0}, LIVE),
        (2.0, {}, UNSEEN),
        (None, {}, UNSEEN),
        (2.0, {"decided": True}, SILENT),
        (2.0, {"reported_fps": 25.0}, LIVE),
        (0.0, FRESH, PAUSED),
        (0.0, {}, PAUSED),
        (0.0, {"heard_at": NOW - 300.0}, PAUSED),
        (0.0, {"lost": True}, PAUSED),
        (2.0, {**FRESH, "lost": True}, LOST),
        (2.0, {"lost": True}, LOST),
        (2.0, UNCOUNTED, BEHIND),
        (math.inf, UNCOUNTED, BEHIND),
        (0.01, UNCOUNTED, LIVE),
        (None, UNCOUNTED, LIVE),
        (2.0, {**UNCOUNTED, "counted_at": NOW - 5.0}, LIVE),
        (2.0, {**UNCOUNTED, "counted": 20}, LIVE),
        (2.0, {**UNCOUNTED, "heard_at": NOW - 60.0}, SILENT),
    ],
)
def test_states(limit: float | None, signs: dict, state: State) -> None:
    """A pause, a lost camera, silence, and frames that nobody counts, in this order."""
    assert state_of(Signs(limit, NOW, **signs)) is state
