"""What is said of jumps in a film."""

import pytest

from worker.publish.clock_jumps import WARN_EVERY_S, ClockJumps


def test_jumps_are_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """With the names and both positions; those in between are counted."""
    now = 0.0
    jumps = ClockJumps({"stream": "cam1"}, lambda: now)
    jumps(4.0, 93600.0004, is_gap=False)
    jumps(1.0, 2.0, is_gap=False)
    now = WARN_EVERY_S - 1.0
    jumps(1.0, 2.0, is_gap=True)
    now = WARN_EVERY_S
    jumps(5.0, 100.0, is_gap=True)
    first, second = caplog.records
    assert (first.levelname, first.message) == ("WARNING", "the film's clock jumps; its frames go on without a gap")
    assert second.message == "the film has a long gap, in which nothing is published"
    for record, expected in ((first, ("cam1", 4.0, 93600.0, 0)), (second, ("cam1", 5.0, 100.0, 2))):
        assert tuple(vars(record)[name] for name in ("stream", "from", "to", "not_logged")) == expected
