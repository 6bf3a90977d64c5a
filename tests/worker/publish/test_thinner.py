"""Thinning by the rule, and that it changes nothing."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handcounter.client import FpsSource, StreamLimit
from handcounter.pacing.schedule import ANY_TIME, NEVER, Pacing, Schedule, decide
from handcounter.pacing.times import RealTime, StreamTime
from worker.publish.thinner import Thinner
from worker.publish.thinning import Due


class Told:
    """The limits that a test tells."""

    def __init__(self, fps: float | None, pacing: Pacing = Pacing.GCRA) -> None:
        self.fps = fps
        self.pacing = pacing
        self.shadow = False
        self.unread = False

    def limit(self, stream_name: str) -> StreamLimit | None:
        assert stream_name == "cam1"
        return None if self.fps is None else StreamLimit(self.fps, FpsSource.OVERRIDE, "", self.unread)


class Clock:
    """Real time, which only the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def thinner(told: Told, clock: Clock | None = None) -> Thinner:
    """A thinner of one stream."""
    due: Due = Thinner(told, "cam1", clock or Clock())
    assert isinstance(due, Thinner)
    return due


def thinned(due: Thinner, tss: list[float]) -> list[float]:
    """Returns the frames that are published."""
    published = []
    for ts in tss:
        if due.is_due(ts):
            due.taken(ts)
            published.append(ts)
    return published


TENTHS = [index / 10 for index in range(50)]


@pytest.mark.parametrize(
    ("fps", "published"),
    [
        (1.0, [0.0, 1.0, 2.0, 3.0, 4.0]),
        (0.5, [0.0, 2.0, 4.0]),
        (0.0, []),
        (math.inf, TENTHS),
        (None, TENTHS),
    ],
)
def test_which_frames_are_published(fps: float | None, published: list[float]) -> None:
    """Those that the rule admits: none of a paused stream, all of one without a limit or whose limit isn't known."""
    assert thinned(thinner(Told(fps)), TENTHS) == published


def test_a_limit_that_changes_acts_on_the_next_frame() -> None:
    """Up, down, to a pause and to no limit."""
    told = Told(1.0)
    due = thinner(told)
    assert thinned(due, [0.0, 0.5, 0.9]) == [0.0]
    told.fps = 2.0
    assert thinned(due, [0.95, 0.97]) == [0.95]
    told.fps = 0.0
    assert thinned(due, [5.0, 6.0]) == []
    told.fps = math.inf
    assert thinned(due, [6.1, 6.2]) == [6.1, 6.2]
    told.fps = 1.0
    assert thinned(due, [6.3, 7.1, 7.3]) == [7.3]


def test_nothing_is_left_out_in_shadow_mode() -> None:
    """The sidecar admits what the limit would deny."""
    told = Told(0.0)
    told.shadow = True
    due = thinner(told)
    assert thinned(due, TENTHS) == TENTHS
    assert due.fps() == math.inf


def test_a_limit_that_was_never_read_leaves_nothing_out() -> None:
    """It is only assumed, and the real one may be higher."""
    told = Told(0.5)
    told.unread = True
    assert thinned(thinner(told), TENTHS) == TENTHS


def test_frames_without_a_limit_are_published_whatever_their_times() -> None:
    """The sidecar, which isn't told of, decides; a camera's double frame isn't this end's business."""
    assert thinned(thinner(Told(None)), [1.0, 1.0, 0.5, 2.0]) == [1.0, 1.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ("fps", "after", "next_ts"),
    [
        (2.0, [10.0], 10.5),
        (0.0, [], NEVER),
        (math.inf, [10.0], ANY_TIME),
        (None, [10.0], ANY_TIME),
        (2.0, [], ANY_TIME),
    ],
)
def test_next_ts(fps: float | None, after: list[float], next_ts: float) -> None:
    """The earliest time that is due."""
    due = thinner(Told(fps))
    thinned(due, after)
    assert due.next_ts() == pytest.approx(next_ts, abs=1e-5)


@pytest.mark.parametrize("pacing", list(Pacing))
def test_pacing(pacing: Pacing) -> None:
    """It is the sidecar's."""
    due = thinner(Told(2.0, pacing))
    assert due.catches_up is (pacing is Pacing.GCRA)
    late = [0.0, 0.6, 1.05, 1.5]  # each frame a little late
    assert thinned(due, late) == ([0.0, 0.6, 1.05, 1.5] if pacing is Pacing.GCRA else [0.0, 0.6, 1.5])


def test_asking_changes_nothing() -> None:
    """Only what was taken counts: a frame that couldn't be encoded costs nothing."""
    due = thinner(Told(1.0))
    assert due.is_due(0.0)
    assert due.is_due(0.1)
    due.taken(0.1)
    assert not due.is_due(1.05)
    assert due.is_due(1.1)


def test_a_limit_that_changes_while_a_frame_is_encoded() -> None:
    """The frame was due when that was asked, and is on its way."""
    told = Told(1.0)
    due = thinner(told)
    thinned(due, [0.0])
    assert due.is_due(1.0)
    told.fps = 0.1
    due.taken(1.0)
    assert not due.is_due(10.5)
    assert due.is_due(11.0)


def test_a_frame_that_nobody_asked_about() -> None:
    """It is taken as it is."""
    due = thinner(Told(1.0))
    due.taken(5.0)
    assert thinned(due, [5.5, 6.0]) == [6.0]


class Sidecar:
    """Decides by the rule."""

    def __init__(self, clock: Clock, pacing: Pacing) -> None:
        self._clock = clock
        self._pacing = pacing
        self.schedule: Schedule | None = None

    def admits(self, ts: float, fps: float) -> bool:
        decision = decide(self.schedule, StreamTime(ts), fps, RealTime(self._clock.now), self._pacing)
        self.schedule = decision.schedule
        return decision.admitted


FPS = st.sampled_from([0.0, 0.2, 1.0, 5.0, 20.0, 29.97, 30.0, 31.0, math.inf])


@st.composite
def films(draw: st.DrawFn) -> list[tuple[float, float]]:
    """Draws the steps of a camera with jitter: the time to the next frame, and the limit at that frame."""
    source_fps = draw(st.sampled_from([5.0, 15.0, 25.0, 30.0]))
    changes = draw(st.lists(st.tuples(st.integers(1, 60), FPS), min_size=1, max_size=5))
    jitter = draw(st.randoms(use_true_random=False))
    share = draw(st.sampled_from([0.0, 0.1, 0.5]))
    restarts = draw(st.sets(st.integers(0, 150), max_size=2))
    limits = itertools.chain.from_iterable([fps] * count for count, fps in changes)
    return [
        (-30.0 if index in restarts else (1.0 + jitter.uniform(-share, share)) / source_fps, fps)
        for index, fps in enumerate(limits)
    ]


@settings(max_examples=50)
@given(film=films(), pacing=st.sampled_from(list(Pacing)))
def test_thinning_changes_no_decision(film: list[tuple[float, float]], pacing: Pacing) -> None:
    """Law: what is admitted of the thinned frames is what is admitted of all frames, with limits and clocks that change."""
    clock, told = Clock(), Told(None, pacing)
    due, behind, alone = thinner(told, clock), Sidecar(clock, pacing), Sidecar(clock, pacing)
    ts = 100.0
    for step, fps in film:
        ts += step
        clock.now += abs(step) if step > 0.0 else 0.04
        told.fps = fps
        expected = alone.admits(ts, fps)
        is_due = due.is_due(ts)
        if is_due:
            due.taken(ts)
        assert (is_due and behind.admits(ts, fps)) is expected
        if fps < math.inf:
            assert is_due is expected


RATES = st.one_of(st.sampled_from([0.2, 1.0, 5.0, 20.0, 29.97, 30.0, 31.0]), st.floats(0.2, 31.0))
SOURCES = st.sampled_from([5.0, 15.0, 25.0, 30.0])


def camera(source_fps: float, jitter: float, seed: int) -> list[float]:
    """Returns the capture times of 200 frames, around an even grid."""
    chance = random.Random(seed)
    return [100.0 + (index + chance.uniform(-jitter, jitter)) / source_fps for index in range(200)]


@settings(max_examples=50)
@given(
    source_fps=SOURCES,
    fps=RATES,
    jitter=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 1000),
    restarted=st.sampled_from(["publisher", "sidecar"]),
    at=st.integers(1, 150),
)
def test_a_restart_costs_one_frame(
    source_fps: float, fps: float, jitter: float, seed: int, restarted: str, at: int
) -> None:
    """Law: of either side, against no restart and no thinning; two if frames come up to half a period early or late."""
    clock, told = Clock(), Told(fps)
    due, behind, alone = thinner(told, clock), Sidecar(clock, Pacing.GCRA), Sidecar(clock, Pacing.GCRA)
    lost = 0
    for index, ts in enumerate(camera(source_fps, jitter, seed)):
        if index == at and restarted == "publisher":
            due = thinner(told, clock)
        if index == at and restarted == "sidecar":
            behind.schedule = None
        lost += alone.admits(ts, fps)
        if due.is_due(ts):
            due.taken(ts)
            lost -= behind.admits(ts, fps)
    assert lost <= (2 if jitter > 0.1 else 1)


@settings(max_examples=50)
@given(
    source_fps=SOURCES,
    limits=st.tuples(RATES, st.one_of(RATES, st.just(0.0))),
    jitter=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 1000),
    at=st.integers(1, 150),
    lag=st.integers(1, 3),
)
def test_a_change_that_is_on_its_way_costs_the_frames_of_the_way(
    source_fps: float, limits: tuple[float, float], jitter: float, seed: int, at: int, lag: int
) -> None:
    """Law: if the publisher hears of a change so many frames later than the sidecar, at most one frame more is lost."""
    clock, told = Clock(), Told(limits[0])
    due, behind, alone = thinner(told, clock), Sidecar(clock, Pacing.GCRA), Sidecar(clock, Pacing.GCRA)
    lost = 0
    for index, ts in enumerate(camera(source_fps, jitter, seed)):
        fps = limits[index >= at]
        told.fps = limits[index >= at + lag]
        lost += alone.admits(ts, fps)
        if due.is_due(ts):
            due.taken(ts)
            lost -= behind.admits(ts, fps)
    assert lost <= lag + 1
