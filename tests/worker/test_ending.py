"""The end of a process that is busy, without ending the process of the tests."""

import threading

import pytest
from support.waiting import wait_until

from worker import ending


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(ending, "end_process", codes.append)
    return codes


def test_what_is_busy_is_ended(ended: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """Soon after it was asked to end, and not before."""
    asked = threading.Event()
    with ending.ends_in_time(asked, seconds=0.01):
        assert ended == []
        asked.set()
        wait_until(lambda: ended)
    assert ended == [0]
    assert caplog.messages == ["ending before everything has stopped"]


def test_what_ends_by_itself_is_left_alone(ended: list[int]) -> None:
    """Whether it was asked to or not."""
    asked = threading.Event()
    with ending.ends_in_time(asked, seconds=600.0):
        asked.set()
    with ending.ends_in_time(asked, seconds=600.0):
        pass
    wait_until(lambda: all(each.name != "ends-in-time" for each in threading.enumerate()))
    assert ended == []
