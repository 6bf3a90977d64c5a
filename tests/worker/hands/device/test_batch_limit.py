"""The largest batch that is tried on the device."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.hands.device.batch_limit import MOST_DOUBLINGS, BatchLimit

SIZES = (1, 2, 4, 8)
RECOVERY = 3


def limits(events: str) -> list[int]:
    """Returns the limit after each event: a digit is a batch of that size that is computed, one behind ! runs out of memory."""
    limit, found = BatchLimit(SIZES, RECOVERY), []
    for event in events.replace("!", " !").split():
        if event.startswith("!"):
            limit.lower(int(event[1]))
            found.append(limit.largest)
            event = event[2:]
        for size in event:
            limit.computed(int(size))
            found.append(limit.largest)
    return found


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("888", [8, 8, 8]),
        ("!8", [4]),
        ("!5", [4]),
        ("!3", [2]),
        ("!1", [8]),  # nothing smaller helps
        ("!8!4!2!1", [4, 2, 1, 1]),
        ("!8444", [4, 4, 4, 8]),
        ("!8111", [4, 4, 4, 8]),  # whatever their size
        ("!3222444", [2, 2, 2, 4, 4, 4, 8]),  # one size at a time
        ("!844!4222", [4, 4, 4, 2, 2, 2, 4]),  # the count begins anew
        ("!8444!8444444", [4, 4, 4, 8, 4, 4, 4, 4, 4, 4, 8]),  # an attempt failed: twice as many
        ("!8444" "118!8444444", [4, 4, 4, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4, 8]),  # and so one that held for a moment
        ("!8444" "888!8444", [4, 4, 4, 8, 8, 8, 8, 4, 4, 4, 8]),  # it held for long: that is another shortage
        ("!8444" "11111!8444444", [4, 4, 4, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4, 4, 4, 8]),  # it was never used: no proof
    ],
)  # fmt: skip
def test_the_limit(events: str, expected: list[int]) -> None:
    """It is lowered below what was too large, and raised by one size after batches without a shortage."""
    assert limits(events) == expected


def test_whether_there_is_a_smaller_size() -> None:
    """Without one, less work at a time doesn't help."""
    limit = BatchLimit(SIZES)
    assert [limit.lower(8), limit.lower(2), limit.lower(1), limit.lower(1)] == [True, True, False, False]


@given(st.integers(1, 7), st.integers(1, 20), st.integers(1, 20_000))
def test_it_doesnt_oscillate(fits: int, recovery: int, batches: int) -> None:
    """With memory for a smaller size and always work for the largest, shortages become rare as their number grows."""
    limit, shortages = BatchLimit(SIZES, recovery), 0
    for _ in range(batches):
        while limit.largest > fits:
            limit.lower(limit.largest)
            shortages += 1
        limit.computed(limit.largest)
    first = len([size for size in SIZES if size > fits])
    doubled = int(math.log2(batches / recovery + 1))
    assert shortages <= first + doubled + batches / (recovery << MOST_DOUBLINGS)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=200))
def test_it_always_recovers(events: list[tuple[bool, int]]) -> None:
    """Whatever happened, the largest size is in use again after enough batches without a shortage."""
    limit = BatchLimit(SIZES, RECOVERY)
    for is_shortage, size in events:
        before = limit.largest
        if is_shortage:
            limit.lower(size)
            assert limit.largest <= (before if size == 1 else min(before, size - 1))
        else:
            limit.computed(size)
            assert limit.largest in SIZES[SIZES.index(before) :][:2]
    for _ in range((len(SIZES) * RECOVERY) << MOST_DOUBLINGS):
        limit.computed(1)
    assert limit.largest == SIZES[-1]
