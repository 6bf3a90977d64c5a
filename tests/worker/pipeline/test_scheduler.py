"""Whose frame is counted next. tests/worker/pipeline/test_scheduler_laws.py has what holds for any load."""

import math

import pytest

from worker.pipeline.scheduler import LEAST_UNLIMITED, Scheduler

Step = tuple[str, float, str] | str
"""A stream, its limit and a frame that is put; or the frame that is taken next, "-" for none."""

A, B = "a", "b"
UNLIMITED = math.inf

CASES: dict[str, list[Step]] = {
    "nothing waits": ["-"],
    "the only frame": [(A, 1, "a1"), "a1", "-"],
    "streams in the order of their arrival": [(A, 1, "a1"), (B, 1, "b1"), ("c", 1, "c1"), "a1", "b1", "c1", "-"],
    "a newer frame keeps the turn": [(A, 1, "a1"), (B, 1, "b1"), (A, 1, "a2"), "a2", "b1", "-"],
    "streams take turns": [(A, 1, "a1"), (B, 1, "b1"), "a1", (A, 1, "a2"), "b1", (B, 1, "b2"), "a2", "b2"],
    "twice the limit, twice the turns": [
        *[(A, 2, "a1"), (B, 1, "b1"), "a1", (A, 2, "a2"), "b1", (B, 1, "b2"), "a2", (A, 2, "a3")],
        *["b2", (B, 1, "b3"), "a3", (A, 2, "a4"), "a4", (A, 2, "a5"), "b3"],
    ],
    "a stream that comes late waits for one turn of each other": [
        *[(A, 1, "a1"), (B, 1, "b1"), "a1", (A, 1, "a2"), ("new", 0.01, "n1"), "b1", "n1", "a2"],
    ],
    "silence saves no turns": [
        *[
            (A, 1, "a1"),
            (B, 1, "b1"),
            ("c", 1, "c1"),
            "a1",
            "b1",
            (B, 1, "b2"),
            "c1",
            ("c", 1, "c2"),
            "b2",
            (B, 1, "b3"),
        ],
        *["c2", ("c", 1, "c3"), "b3", (B, 1, "b4"), (A, 1, "a2"), "c3", ("c", 1, "c4"), "a2", (A, 1, "a3")],
        *["b4", (B, 1, "b5"), "c4", "a3", "b5"],
    ],
    "a stream that was ahead waits while others do, also after a moment at which nothing waited": [
        *[(A, 0.1, "a1"), (B, 10, "b1"), "a1", (A, 0.1, "a2"), "b1", (B, 10, "b2"), "b2", (B, 10, "b3"), "b3", "a2"],
        *[(A, 0.1, "a3"), (B, 10, "b4"), "b4", "a3"],
    ],
    "no limit counts as the highest in use": [
        *[
            (A, UNLIMITED, "a1"),
            (B, 60, "b1"),
            "a1",
            (A, UNLIMITED, "a2"),
            "b1",
            (B, 60, "b2"),
            "a2",
            (A, UNLIMITED, "a3"),
        ],
        *["b2", "a3"],
    ],
    "a limit that changes acts on the next turn": [
        *[(A, 1, "a1"), (B, 1, "b1"), "a1", (A, 4, "a2"), "b1", (B, 1, "b2"), "a2", (A, 4, "a3"), "b2", (B, 1, "b3")],
        *["a3", (A, 4, "a4"), "a4", (A, 4, "a5"), "a5", (A, 4, "a6"), "b3", "a6"],
    ],
    "a stream that shadow mode admits in spite of its pause": [
        (A, 0.0, "a1"),
        (B, 30, "b1"),
        "a1",
        (A, 0.0, "a2"),
        "b1",
        "a2",
    ],
}


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES)
def test_turns(steps: list[Step]) -> None:
    """Live frames, put and taken in this order."""
    scheduler: Scheduler[str] = Scheduler()
    for step in steps:
        if isinstance(step, str):
            assert (scheduler.take(lambda _: False, []) or "-") == step, step
        else:
            scheduler.put(*step, live=True)


def test_a_newer_frame_supersedes_the_one_that_waits() -> None:
    """Of its own stream alone."""
    scheduler: Scheduler[str] = Scheduler()
    assert scheduler.put(A, 1.0, "a1", live=True) is None
    assert scheduler.put(B, 1.0, "b1", live=True) is None
    assert scheduler.put(A, 1.0, "a2", live=True) == "a1"
    assert len(scheduler) == 2


def test_an_older_frame_that_comes_late_supersedes_nothing() -> None:
    """It is superseded itself; in an empty place it waits like any other."""
    scheduler: Scheduler[int] = Scheduler(lambda new, old: new >= old)
    assert [scheduler.put(A, 1.0, number, live=True) for number in (2, 5, 3, 5, 4)] == [None, 2, 3, 5, 4]
    assert scheduler.take(lambda _: False, []) == 5
    assert scheduler.put(A, 1.0, 1, live=True) is None
    assert [scheduler.put("film", 1.0, number, live=False) for number in (2, 1)] == [None, None]
    assert len(scheduler) == 3


def test_films_wait_in_a_row_behind_live_frames() -> None:
    """They are never superseded, and share what the live streams leave by their limits."""
    scheduler: Scheduler[str] = Scheduler()
    for frame in ("f1", "f2", "f3"):
        assert scheduler.put("film", 2.0, frame, live=False) is None
    scheduler.put("other", 1.0, "o1", live=False)
    scheduler.put("other", 1.0, "o2", live=False)
    scheduler.put(A, 0.1, "a1", live=True)
    taken = [scheduler.take(lambda _: False, [])]
    scheduler.put(A, 0.1, "a2", live=True)
    taken += [scheduler.take(lambda _: False, []) for _ in range(6)]
    assert taken == ["a1", "a2", "f1", "o1", "f2", "o2", "f3"]


def test_worthless_frames_cost_no_turn() -> None:
    """The stream is still due, so its next frame goes first."""
    scheduler: Scheduler[str] = Scheduler()
    for name in "abc":
        scheduler.put(name, 0.1, name + "1", live=True)
    dropped: list[str] = []
    assert scheduler.take(lambda frame: frame != "c1", dropped) == "c1"
    assert dropped == ["a1", "b1"]
    scheduler.put("c", 0.1, "c2", live=True)
    scheduler.put("a", 0.1, "a2", live=True)
    assert [scheduler.take(lambda _: False, dropped) for _ in range(3)] == ["a2", "c2", None]
    scheduler.put("a", 0.1, "a3", live=True)
    assert scheduler.take(lambda _: True, dropped) is None
    assert dropped == ["a1", "b1", "a3"]


def test_a_stream_whose_frame_was_worthless_is_due_before_those_that_had_their_turn() -> None:
    """As long as others wait."""
    scheduler: Scheduler[str] = Scheduler()
    for name in "abc":
        scheduler.put(name, 0.1, name + "1", live=True)
    assert scheduler.take(lambda frame: frame == "a1", []) == "b1"
    scheduler.put("b", 0.1, "b2", live=True)
    scheduler.put("a", 0.1, "a2", live=True)
    assert [scheduler.take(lambda _: False, []) for _ in range(3)] == ["c1", "a2", "b2"]


def test_idle_streams_are_forgotten() -> None:
    """As soon as it makes no difference, however many come and go beside one that always waits."""
    scheduler: Scheduler[str] = Scheduler()
    scheduler.put("busy", 1.0, "frame", live=True)
    for number in range(1000):
        scheduler.put(f"guest{number}", 5.0, "frame", live=True)
        for _ in range(2):
            scheduler.take(lambda _: False, [])
            scheduler.put("busy", 1.0, "frame", live=True)
        assert scheduler.remembered <= 12
    for _ in range(3):
        while scheduler.take(lambda _: False, []):
            pass
        scheduler.put("last", 1.0, "frame", live=True)
        assert scheduler.remembered <= 12
    assert scheduler.remembered <= 2


def test_streams_that_come_in_the_same_order_again_and_again_get_equal_shares() -> None:
    """Although sometimes nothing waits any more, and some frames come too late for that."""
    scheduler: Scheduler[str] = Scheduler()
    taken = []
    for number in range(300):
        for name in "abcde":
            scheduler.put(name, 5.0, name, live=True)
        taken += [scheduler.take(lambda _: False, []) for _ in range(3 if number % 3 else 5)]
    counts = [taken.count(name) for name in "abcde"]
    assert max(counts) - min(counts) <= 1


def test_the_least_weight_without_a_limit_is_that_of_a_usual_camera() -> None:
    """A stream limited to a third of it gets a third of its turns."""
    scheduler: Scheduler[str] = Scheduler()
    taken = []
    for _ in range(400):
        scheduler.put(A, math.inf, A, live=True)
        scheduler.put(B, LEAST_UNLIMITED / 3, B, live=True)
        taken.append(scheduler.take(lambda _: False, []))
    assert taken.count(A) == pytest.approx(300, abs=1)
