"""What holds for the scheduler whatever the load."""

import itertools
import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.pipeline.scheduler import LEAST_UNLIMITED, Scheduler

LIMITS = st.sampled_from([0.05, 0.5, 1.0, 3.0, 5.0, 7.5, 30.0])
STREAMS = st.sampled_from("abcdef")
PUTS = st.tuples(STREAMS, st.sampled_from([0.0, 1.0, 1.0, 1.0, 2.0, 60.0, math.inf]))
STEPS = st.lists(st.one_of(PUTS, st.sampled_from(["take", "take", "take", "drop"])), max_size=120)
"""Frames that are put, and turns; at a "drop" the first frame that is due is worthless."""


class Model:
    """The same rule written down plainly: it searches all streams, and forgets them only at moments at which nothing waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: dict[str, float] = {}
        self.fps: dict[str, float] = {}
        self.waiting: dict[str, tuple[int, int]] = {}
        """By stream: order of arrival in the place, and number of the frame."""
        self.places = itertools.count()
        self.period = 0
        self.last_turn: dict[str, int] = {}
        """By stream: the period."""

    def put(self, name: str, fps: float, number: int) -> int | None:
        self.fps[name] = fps
        if name in self.waiting:
            place, old = self.waiting[name]
            self.waiting[name] = place, number
            return old
        self.last_turn.setdefault(name, self.period)
        self.due[name] = max(self.due.get(name, self.now), self.now)
        self.waiting[name] = next(self.places), number
        return None

    def take(self, *, drop: bool) -> tuple[int | None, list[int]]:
        dropped: list[int] = []
        while self.waiting:
            name = min(self.waiting, key=lambda name: (self.due[name], self.waiting[name][0]))
            _, number = self.waiting.pop(name)
            lost = drop and not dropped
            if not lost:
                self.now = self.due[name]
                self.due[name] += 1.0 / self.weight(name)
                self.last_turn[name] = self.period
            if not self.waiting:
                for each in [each for each in self.due if self.last_turn[each] < self.period]:
                    del self.due[each], self.fps[each], self.last_turn[each]
                self.period += 1
            if not lost:
                return number, dropped
            dropped.append(number)
        return None, dropped

    def weight(self, name: str) -> float:
        remembered = {self.fps[each] for each, due in self.due.items() if each in self.waiting or due > self.now}
        in_use = {fps for fps in remembered | {self.fps[name]} if fps < math.inf}
        return self.fps[name] if 0.0 < self.fps[name] < math.inf else max(LEAST_UNLIMITED, *in_use, 0.0)


@given(STEPS)
def test_it_is_work_conserving_and_follows_the_rule(steps: list[tuple[str, float] | str]) -> None:
    """Each frame is taken, superseded or dropped once; a turn finds a frame if any waits; forgetting changes no turn."""
    scheduler: Scheduler[int] = Scheduler()
    model = Model()
    left: set[int] = set()
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            superseded = scheduler.put(*step, number, live=True)
            assert superseded == model.put(*step, number)
            left = left - {superseded} | {number}
        else:
            dropped: list[int] = []
            taken = scheduler.take(lambda _: step == "drop" and not dropped, dropped)  # noqa: B023
            assert (taken, dropped) == model.take(drop=step == "drop")
            assert (taken is None) == (not left - set(dropped))
            left -= {taken, *dropped}
        assert len(scheduler) == len(left)


def turns(weights: dict[str, float], number: int) -> list[str]:
    """Returns the turns of streams that all wait all the time."""
    scheduler: Scheduler[str] = Scheduler()
    taken = []
    for _ in range(number):
        for name, fps in weights.items():
            scheduler.put(name, fps, name, live=True)
        taken.append(scheduler.take(lambda _: False, []))
    return taken


@settings(max_examples=50)
@given(st.dictionaries(STREAMS, LIMITS, min_size=2), st.integers(0, 60), st.integers(1, 120))
def test_overload_is_shared_in_proportion_to_the_limits(weights: dict[str, float], begin: int, length: int) -> None:
    """In any window two streams that wait differ by at most one turn of each, measured by their weights.

    So with equal limits each gets at least its share less one frame.
    """
    window = Counter(turns(weights, begin + length)[begin:])
    for one, other in itertools.combinations(weights, 2):
        behind = abs(window[one] / weights[one] - window[other] / weights[other])
        assert behind <= 1.0 / weights[one] + 1.0 / weights[other] + 1e-6
    window = Counter(turns(dict.fromkeys(weights, 5.0), begin + length)[begin:])
    assert all(window[name] > length / len(weights) - 1.0 for name in weights)


@settings(max_examples=50)
@given(st.dictionaries(STREAMS, LIMITS, min_size=1))
def test_in_the_long_run_the_shares_are_exact(weights: dict[str, float]) -> None:
    """Whatever the weights: after so many turns that the least one had ten."""
    number = math.ceil(10 * sum(weights.values()) / min(weights.values()))
    counts = Counter(turns(weights, number))
    for name, fps in weights.items():
        share = number * fps / sum(weights.values())
        assert abs(counts[name] - share) <= 1.0 + len(weights) * fps / sum(weights.values())


@settings(max_examples=50)
@given(STEPS, LIMITS, st.lists(PUTS, max_size=60))
def test_a_frame_waits_for_one_round(
    before: list[tuple[str, float] | str], fps: float, puts: list[tuple[str, float]]
) -> None:
    """If its stream hasn't used its share: each other stream has at most one turn before it, whatever is put meanwhile."""
    scheduler: Scheduler[str] = Scheduler()
    for step in before:
        if isinstance(step, tuple):
            scheduler.put(*step, step[0], live=True)
        else:
            scheduler.take(lambda _: False, [])
    scheduler.put("new", fps, "new", live=True)
    meanwhile = Counter[str]()
    arrivals = iter(puts)
    while (taken := scheduler.take(lambda _: False, [])) != "new":
        meanwhile[str(taken)] += 1
        for name, limit in itertools.islice(arrivals, 2):
            scheduler.put(name, limit, name, live=True)
    assert set(meanwhile.values()) <= {1}


@given(st.lists(st.tuples(STREAMS, LIMITS), min_size=1, max_size=60))
def test_each_film_keeps_its_order(puts: list[tuple[str, float]]) -> None:
    """And none of its frames is lost."""
    scheduler: Scheduler[tuple[str, int]] = Scheduler()
    frames = [(name, number) for number, (name, _) in enumerate(puts)]
    for (name, fps), frame in zip(puts, frames, strict=True):
        assert scheduler.put(name, fps, frame, live=False) is None
    taken = [scheduler.take(lambda _: False, []) for _ in frames]
    assert sorted(taken, key=lambda frame: (frame[0], taken.index(frame))) == sorted(frames)
    assert scheduler.take(lambda _: False, []) is None
