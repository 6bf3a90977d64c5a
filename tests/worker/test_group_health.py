"""Whether several processes are healthy together."""

import pytest

from worker.group_health import Answer, Health, State, are_alive, are_ready

GOOD, BAD = Answer(True, {}), Answer(False, {})
LIMIT = 600.0


@pytest.mark.parametrize(
    ("processes", "ready", "alive", "alive_later"),
    [
        ([GOOD, GOOD], True, True, True),
        ([GOOD, BAD], False, False, False),
        ([BAD, BAD], False, False, False),
        ([GOOD, State.NO_ANSWER], False, False, False),
        ([State.STARTING, State.STARTING], False, True, False),
        ([GOOD, State.STARTING], False, True, False),
        ([BAD, State.STARTING], False, False, False),
        ([GOOD, State.DONE], True, True, True),
        ([BAD, State.DONE], False, False, False),
        ([State.NO_ANSWER, State.DONE], False, False, False),
        ([State.STARTING, State.DONE], False, True, False),
        ([State.DONE, State.DONE], True, True, True),
    ],
)
def test_the_verdict(processes: list[Health], ready: bool, alive: bool, alive_later: bool) -> None:
    """One that is done is left out; one that starts isn't ready, and is alive until a start may take no longer."""
    assert are_ready(processes) == ready
    assert are_alive(processes, LIMIT - 0.1, LIMIT) == alive
    assert are_alive(processes, LIMIT, LIMIT) == alive_later
