"""Clocks of streams that restart and jump: counted, and warned of once with the likely cause."""

import pytest
from support.models.sidecar_world import World

from sidecar.deciding.clock_log import ClockLog
from sidecar.deciding.stream import ClockChange


@pytest.fixture
def world() -> World:
    """A world whose roster warns."""
    made = World()
    made.roster._on_clock_change = ClockLog(lambda: made.now).record
    return made


def test_two_publishers_under_one_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each change of clocks counts; the warning about them comes once."""
    for second in range(20):
        world.now = 1000.0 + second
        for ahead in (0.0, 5.0):
            world.decide("cam", 100.0 + second + ahead, world.now)
    stream = world.roster.streams["cam"]
    assert stream.clock_restarts > 5
    assert stream.clock_jumps > 5
    assert world.roster.clock_changes == {
        ClockChange.RESTART: stream.clock_restarts,
        ClockChange.JUMP: stream.clock_jumps,
    }
    (line,) = [vars(record) for record in caplog.records]
    assert (line["stream_name"], line["likely_cause"]) == ("cam", "two publishers use this stream_name")


def test_a_restart_is_warned_of_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A film that begins again and again is one line."""
    for number in range(40):
        world.now += 1.0
        world.decide("cam", float(number % 10), world.now)
    assert world.roster.streams["cam"].clock_restarts == 3
    assert world.roster.streams["cam"].clock_jumps == 0
    (line,) = [vars(record) for record in caplog.records]
    assert line["message"] == "the clock of a stream restarted"


def test_a_live_stream_and_a_fast_replay_change_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a silence nor a replay at a hundred times its speed; a gap in a replay is counted, but no warning."""
    for ts, now in ((0.0, 1000.0), (1.0, 1001.0), (61.0, 1061.0), *((62.0 + n, 1061.0 + n / 100) for n in range(50))):
        world.decide("cam", ts, now)
    assert (world.roster.streams["cam"].clock_restarts, world.roster.streams["cam"].clock_jumps) == (0, 0)
    world.decide("cam", 500.0, 1062.0)
    assert world.roster.streams["cam"].clock_jumps == 1
    assert caplog.messages == []
