import logging

import pytest

from worker.publish.outages import Outages


def test_each_change_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """However often an opening fails, and however many frames arrive."""
    clock = iter([float(second) for second in range(100)])
    outages = Outages("rtsp://door/…", "door", clock=lambda: next(clock))
    assert (outages.working, outages.problem, outages.since) == (False, "", 0.0)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            outages.works()
        assert (outages.working, outages.since) == (True, 1.0)
        outages.lost("no route")
        outages.lost("refused")
        assert (outages.working, outages.problem, outages.since) == (False, "refused", 2.0)
        outages.works()
        outages.works()
    assert (outages.working, outages.problem, outages.last_problem) == (True, "", "refused")
    assert outages.last_problem_at == 4.0
    assert [(record.message, record.stream) for record in caplog.records] == [
        ("the camera is lost; retrying", "door"),
        ("the camera works again", "door"),
    ]
