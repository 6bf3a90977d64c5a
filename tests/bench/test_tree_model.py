"""The model of how a change reaches many sidecars."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tree_model import Costs, change_of_all, change_of_one, depth, without_tree

COSTS = Costs(change_s=4.0, stream_s=0.0, push_s=0.25, command_s=0.5, field_s=0.0, tell_s=1.0, hop_s=8.0)
READING = COSTS._replace(stream_s=0.125, field_s=0.0625)


@pytest.mark.parametrize(
    ("sidecars", "fan_out", "levels"),
    [(1, 32, 0), (2, 32, 1), (33, 32, 1), (34, 32, 2), (1057, 32, 2), (1058, 32, 3), (4, 1, 3)],
)
def test_levels(sidecars: int, fan_out: int, levels: int) -> None:
    """The first sidecar, those that follow it, those that follow them."""
    assert depth(sidecars, fan_out) == levels


def test_everything_is_told_one_after_the_other() -> None:
    """The last of the last waits for all before it."""
    assert change_of_all(1, 1, 2, COSTS) == (4.0, 1, 0.75, 0.0)
    assert change_of_all(3, 1, 2, COSTS) == (4.0 + 2.0 + 8.0, 3, 0.75, 2.0)
    assert change_of_all(7, 1, 2, COSTS).last_s == 4.0 + 2 * (2.0 + 8.0)


def test_one_stream_goes_one_way() -> None:
    """One message for each level, however many sidecars there are."""
    assert change_of_one(7, 1, 2, COSTS) == (4.0 + 2 * 9.0, 3, 0.75, 1.0)
    assert change_of_one(1, 1, 2, COSTS) == (4.0, 1, 0.75, 0.0)


def test_without_a_tree_redis_does_everything() -> None:
    """For each sidecar, whichever stream it is."""
    assert without_tree(1, 1, COSTS) == (4.0, 1, 0.75, 0.0)
    outcome = without_tree(1000, 1, COSTS)
    assert outcome == (4.0 + 999 * 0.75, 1000, 750.0, 0.0)
    assert outcome.most_per_s == pytest.approx(1 / 750.0)


def test_the_first_of_a_tree_reads_the_streams_of_all() -> None:
    """As many fields as all would read themselves, in fewer commands; what one reader takes for all is later for all."""
    alone, tree = without_tree(8, 512, READING), change_of_one(8, 512, 7, READING)
    assert alone.redis_s == 8 * (0.25 + 0.5 + 32.0)
    assert tree.redis_s == 0.25 + 8 * 0.5 + 8 * 32.0
    assert (alone.busiest_s, tree.busiest_s) == (64.0, 8 * 64.0 + 1.0)
    assert tree.last_s == 4.0 + 8 * 64.0 + 9.0
    assert change_of_all(8, 512, 7, READING).last_s == 4.0 + 8 * 64.0 + 7.0 + 8.0


def test_several_trees_read_at_the_same_time() -> None:
    """Each its part; Redis reads as much in all, and each is pushed to."""
    one, two = change_of_one(8, 512, 7, READING), change_of_one(8, 512, 7, READING, trees=2)
    assert one.redis_s + 0.25 == two.redis_s
    assert two.last_s == 4.0 + max(4 * 64.0, 0.25 + 4 * 32.5) + 9.0
    assert (two.messages, change_of_all(8, 512, 7, READING, trees=2).messages) == (3, 8)
    assert two.busiest_s == 4 * 64.0 + 1.0


@settings(max_examples=50)
@given(st.integers(2, 500), st.integers(1, 40))
def test_nobody_is_told_before_the_one_that_tells(sidecars: int, fan_out: int) -> None:
    """Law: a change of all takes as long as that of one, or longer; it tells each sidecar once, and none tells too many."""
    everything, one = change_of_all(sidecars, 10, fan_out, READING), change_of_one(sidecars, 10, fan_out, READING)
    assert everything.last_s >= one.last_s
    assert everything.messages == sidecars
    assert everything.busiest_s <= fan_out * COSTS.tell_s + sidecars * 10 * READING.stream_s
