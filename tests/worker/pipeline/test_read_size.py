"""How many entries are read at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.read_size import CALM_S, ReadSize

READS = st.lists(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=20)


@pytest.mark.parametrize(
    ("reads", "wanted", "entries"),
    [
        ([], 8, 8),
        ([], 300, 256),
        ([(8, 8)] * 5, 8, 8),
        ([(40, 20)] * 30, 8, 16),
        ([(240, 8)] * 30, 6, 180),
        ([(240, 8)] * 30, 9, 256),
        ([(100, 0)] * 50, 1, 256),
        ([(100, 0)] * 5 + [(50, 50)] * 50, 4, 4),  # a limit was lifted
    ],
)
def test_as_many_as_have_the_frames_that_are_wanted(reads: list[tuple[int, int]], wanted: int, entries: int) -> None:
    """By the share that was admitted lately, and never more than --batch-size."""
    size = ReadSize(256)
    for decided, admitted in reads:
        size.note(decided, admitted)
    assert size.entries(wanted, 0.0) == entries


def test_all_is_read_under_overload() -> None:
    """And for some time after its last sign."""
    size = ReadSize(256)
    size.note_overload(100.0)
    size.note_overload(101.0)
    at = (101.0, 101.0 + CALM_S - 0.1, 101.0 + CALM_S)
    assert [size.entries(4, now) for now in at] == [256, 256, 4]


@given(READS, st.integers(1, 200), st.integers(1, 1000))
def test_bounds(reads: list[tuple[int, int]], wanted: int, most: int) -> None:
    """At least one entry is read, and as many as are wanted, whatever was admitted before; at most --batch-size."""
    size = ReadSize(most)
    for decided, admitted in reads:
        size.note(decided, admitted)
    assert min(wanted, most) <= size.entries(wanted, 0.0) <= most
    assert size.entries(wanted, 0.0) <= size.entries(wanted + 1, 0.0)
