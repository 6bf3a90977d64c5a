"""What becomes of deliveries, by what the limiter says."""

import math

import pytest
from support.pipelines import EveryNth, pipeline_options

from worker.pipeline.decider import Decider, Verdicts
from worker.queue.delivery import Delivery
from worker.queue.frame import DeadReason, SkipReason

NOW = 1_700_000_000.0


def delivery(number: int, stream_name: str = "cam", times: int = 1, age: float = 1.0, **fields: bytes) -> Delivery:
    """A delivery of a frame that Redis took in so many seconds ago."""
    words = {b"stream_name": stream_name.encode(), b"ts": b"%d" % number, b"frame_key": b"key"}
    more = {name.encode(): value for name, value in fields.items()}
    return Delivery(f"{number}-0", {**words, **more}, times, NOW - age)


def reasons(verdicts: Verdicts) -> dict[str, SkipReason]:
    """The skipped entries and why."""
    return {each.entry_id: each.reason for each in verdicts.skipped}


def admitted(verdicts: Verdicts) -> list[str]:
    """The ids of the admitted frames."""
    return [each.frame.entry_id for each in verdicts.admitted]


def test_neither_stale_nor_invalid_entries_are_asked_about() -> None:
    """A film is never stale, and a frame that is exactly as old as allowed isn't either."""
    limiter = EveryNth()
    decider = Decider(limiter, pipeline_options(max_age=10.0))
    entries = [delivery(1, age=11.0), delivery(2, age=10.0), delivery(3, age=99.0, live=b"0"), delivery(4, ts=b"soon")]
    verdicts = decider.decide(entries, NOW)
    assert reasons(verdicts) == {"1-0": SkipReason.STALE}
    assert [(each.entry_id, each.reason) for each in verdicts.dead] == [("4-0", DeadReason.BAD_TS)]
    assert admitted(verdicts) == ["2-0", "3-0"]
    assert limiter.batches == [[("cam", 2.0), ("cam", 3.0)]]
    assert [frame.entry_id for frame in verdicts.new] == ["1-0", "2-0", "3-0"]


def test_a_frame_that_was_delivered_before_is_not_decided_again() -> None:
    """The sidecar would call it a duplicate. It is counted unless its stream is paused."""
    limiter = EveryNth(2)
    limiter.paused = {"off"}
    entries = [delivery(1, times=2), delivery(2), delivery(3, "off", times=5), delivery(4), delivery(5, "off")]
    verdicts = Decider(limiter, pipeline_options()).decide(entries, NOW)
    assert admitted(verdicts) == ["1-0", "2-0"]
    assert reasons(verdicts) == {"3-0": SkipReason.PAUSED, "4-0": SkipReason.TOO_SOON, "5-0": SkipReason.PAUSED}
    assert [frame.entry_id for frame in verdicts.new] == ["2-0", "4-0", "5-0"]


@pytest.mark.parametrize("wait", [True, False])
def test_a_frame_whose_limit_nobody_told(wait: bool) -> None:
    """It waits, or is paced like any other; so is one that was delivered before."""
    limiter = EveryNth()
    limiter.unknown = {"new"}
    decider = Decider(limiter, pipeline_options(wait_for_limits=wait))
    verdicts = decider.decide([delivery(1, "new"), delivery(2), delivery(3, "new", times=3)], NOW)
    assert admitted(verdicts) == (["2-0"] if wait else ["1-0", "2-0", "3-0"])
    assert [each.entry_id for _, each in verdicts.undecided] == (["1-0", "3-0"] if wait else [])
    assert decider.undecided == len(verdicts.undecided)


def test_what_waits_is_decided_when_the_sidecar_can_be_asked() -> None:
    """Until then only its age matters; a film waits however long that takes."""
    limiter = EveryNth()
    limiter.unknown = {"a", "b"}
    limiter.sidecar_unreachable = True
    decider = Decider(limiter, pipeline_options(max_age=10.0))
    decider.decide([delivery(1, "a", age=9.0), delivery(2, "b"), delivery(3, "a", age=9.0, live=b"0")], NOW)
    verdicts = decider.decide_waiting(NOW + 2.0)
    assert reasons(verdicts) == {"1-0": SkipReason.LIMIT_UNKNOWN}
    assert (admitted(verdicts), decider.undecided) == ([], 2)
    limiter.sidecar_unreachable, limiter.unknown = False, {"b"}
    verdicts = decider.decide_waiting(NOW + 2.0)
    assert (admitted(verdicts), decider.undecided) == (["3-0"], 1)
    assert verdicts.new == []
    limiter.unknown, limiter.paused = set(), {"b"}
    assert reasons(decider.decide_waiting(NOW + 2.0)) == {"2-0": SkipReason.PAUSED}
    assert decider.undecided == 0


def test_the_weight_of_a_frame_is_the_limit_in_force() -> None:
    """Infinity if it isn't known."""

    class Told(EveryNth):
        def told_fps(self, stream_name: str) -> float | None:
            return {"slow": 0.5, "free": math.inf}.get(stream_name)

    decider = Decider(Told(), pipeline_options(wait_for_limits=False))
    verdicts = decider.decide([delivery(1, "slow"), delivery(2, "free"), delivery(3, "other")], NOW)
    assert [each.fps for each in verdicts.admitted] == [0.5, math.inf, math.inf]
