"""Whether several processes are healthy together."""

import pytest

from worker.group_health import Answer, Said, Silence, are_alive, are_ready

GOOD, BAD = Answer(True, {}), Answer(False, {})
LIMIT = 600.0


@pytest.mark.parametrize(
    ("said", "ready", "alive", "alive_later"),
    [
        ([GOOD, GOOD], True, True, True),
        ([GOOD, BAD], False, False, False),
        ([BAD, BAD], False, False, False),
        ([GOOD, Silence.NO_ANSWER], False, False, False),
        ([Silence.STARTING, Silence.STARTING], False, True, False),
        ([GOOD, Silence.STARTING], False, True, False),
        ([BAD, Silence.STARTING], False, False, False),
        ([GOOD, Silence.DONE], True, True, True),
        ([BAD, Silence.DONE], False, False, False),
        ([Silence.NO_ANSWER, Silence.DONE], False, False, False),
        ([Silence.STARTING, Silence.DONE], False, True, False),
        ([Silence.DONE, Silence.DONE], True, True, True),
    ],
)
def test_the_verdict(said: list[Said], ready: bool, alive: bool, alive_later: bool) -> None:
    """One that is done is left out; one that starts isn't ready, and is alive until a start may take no longer."""
    assert are_ready(said) == ready
    assert are_alive(said, LIMIT - 0.1, LIMIT) == alive
    assert are_alive(said, LIMIT, LIMIT) == alive_later
