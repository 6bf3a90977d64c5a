"""From positions in a film to capture times."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.publish.timeline import MAX_POSITION, Timeline

START = 1_700_000_000.0
STEP = 0.04
NAN = math.nan


@pytest.mark.parametrize(
    ("passes", "offsets"),
    [
        # even and uneven positions
        ([[0.0, 0.1, 0.2]], [0.0, 0.1, 0.2]),
        ([[0.0, 0.5, 0.6]], [0.0, 0.5, 0.6]),
        # only differences count
        ([[7.0, 7.1]], [0.0, 0.1]),
        ([[-3.0, -2.5]], [0.0, 0.5]),
        # positions that stand still, go back or aren't there are one step each
        ([[0.0, 0.0, 0.0]], [0.0, 0.04, 0.08]),
        ([[NAN, NAN, NAN]], [0.0, 0.04, 0.08]),
        ([[5.0, 4.0, 3.0]], [0.0, 0.04, 0.08]),
        ([[0.0, math.inf, 0.5]], [0.0, 0.04, 0.5]),
        ([[0.0, 2 * MAX_POSITION, 0.5]], [0.0, 0.04, 0.5]),
        # the first valid position is the origin
        ([[NAN, 9.0, 9.5]], [0.0, 0.04, 0.54]),
        # a loop is one step
        ([[0.0, 0.1], [0.0, 0.1]], [0.0, 0.1, 0.14, 0.24]),
        ([[0.0, 0.1], [3.0, 3.2]], [0.0, 0.1, 0.14, 0.34]),
        ([[0.0], [], [0.0]], [0.0, 0.04]),
    ],
)
def test_capture_times(passes: list[list[float]], offsets: list[float]) -> None:
    """The capture times of a film's passes, relative to the start."""
    timeline, times = Timeline(START, STEP), []
    for positions in passes:
        times += [timeline.ts(position) - START for position in positions]
        timeline.loop()
    assert times == pytest.approx(offsets, abs=1e-6)


@given(
    passes=st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20), max_size=4),
    step=st.floats(0.001, 1.0),
)
def test_capture_times_only_increase(passes: list[list[float]], step: float) -> None:
    """Whatever a container's positions are, capture times begin at the start and increase, across loops too."""
    timeline = Timeline(START, step)
    times = []
    for positions in passes:
        times += [timeline.ts(position) for position in positions]
        timeline.loop()
    assert times[:1] in ([], [START])
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


@given(
    gaps=st.lists(st.floats(0.001, 5.0), min_size=1, max_size=30),
    first=st.floats(0, 1000),
    step=st.floats(0.001, 1.0),
    loops=st.integers(1, 4),
)
def test_capture_times_follow_the_film(gaps: list[float], first: float, step: float, loops: int) -> None:
    """Within a pass the gaps are the film's own; between passes there is exactly one step."""
    positions = list(itertools.accumulate(gaps, initial=first))
    timeline = Timeline(START, step)
    times = []
    for _ in range(loops):
        times += [timeline.ts(position) for position in positions]
        timeline.loop()
    expected = ([*gaps, step] * loops)[:-1]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("positions", "offsets"),
    [
        ([0.0, 0.1, 95000.0, 95000.1], [0.0, 0.1, 0.14, 0.24]),  # a clock that is set forward
        ([95000.0, 95000.1, 5.0, 5.1], [0.0, 0.1, 0.14, 0.24]),  # and back
        ([0.0, 10.0, 10.1], [0.0, 10.0, 10.1]),  # a gap that may be one
        ([0.0, 20.0, 0.1, 20.1], [0.0, 0.04, 0.08, 0.12]),  # frames on both sides in turns
    ],
)
def test_jumps(positions: list[float], offsets: list[float]) -> None:
    """A longer gap than there may be is one step."""
    timeline = Timeline(START, STEP, max_gap=10.0)
    assert [timeline.ts(position) - START for position in positions] == pytest.approx(offsets, abs=1e-6)


def test_packets_come_before_their_frames() -> None:
    """A packet's capture time is its frame's, in whatever order they come and whether or not it is decoded."""
    timeline = Timeline(START, STEP)
    known = {position: timeline.arrives(position) for position in (5.0, 5.12, 5.04, 5.08)}
    assert [timeline.ts(position) for position in sorted(known)] == pytest.approx(
        [known[each] for each in sorted(known)]
    )
    assert timeline.left_out(5.5) - START == pytest.approx(0.5)
    assert timeline.ts(5.52) - START == pytest.approx(0.52)


def test_a_packet_without_a_position_takes_a_step_if_it_is_left_out() -> None:
    """Time goes on while nothing is decoded."""
    timeline = Timeline(START, STEP)
    assert timeline.arrives(NAN) == timeline.arrives(NAN) == START
    assert [timeline.left_out(NAN) - START for _ in range(3)] == pytest.approx([0.0, 0.04, 0.08], abs=1e-6)
    assert timeline.ts(NAN) - START == pytest.approx(0.12, abs=1e-6)


def test_a_pause_is_not_a_jump() -> None:
    """Packets that are left out show that the film goes on."""
    timeline = Timeline(START, STEP, max_gap=10.0)
    timeline.ts(0.0)
    for second in range(1, 100):
        timeline.left_out(float(second))
    assert timeline.ts(100.0) - START == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("max_gap", "positions", "jumps"),
    [
        (10.0, [0.0, 0.1, 93_600.0, 93_600.1], [(0.1, 93_600.0, False)]),
        (10.0, [93_600.0, 93_600.1, 0.0], [(93_600.1, 0.0, False)]),
        (10.0, [0.0, 9.9], []),
        (math.inf, [0.0, 0.1, 93_600.0, 93_600.1], [(0.1, 93_600.0, True)]),
        (math.inf, [0.0, 60.0, 59.0], []),
        (math.inf, [0.0, NAN, 2 * MAX_POSITION], []),
    ],
)
def test_jumps_are_told(max_gap: float, positions: list[float], jumps: list[tuple[float, float, bool]]) -> None:
    """With where they lead from and to, and whether the capture times have them too. A loop is none."""
    told: list[tuple[float, float, bool]] = []
    timeline = Timeline(START, STEP, max_gap, lambda before, after, *, is_gap: told.append((before, after, is_gap)))
    for _ in range(2):
        for position in positions:
            timeline.ts(position)
        timeline.loop()
    assert told == 2 * jumps
