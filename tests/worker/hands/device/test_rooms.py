"""Room in a block of memory."""

from hypothesis import given
from hypothesis import strategies as st

from worker.hands.device.rooms import Rooms


def test_the_first_room_that_fits_is_taken():
    """And what was freed on both sides becomes one room again."""
    rooms = Rooms(10)
    assert [rooms.take(4), rooms.take(3), rooms.take(4), rooms.take(3)] == [0, 4, None, 7]
    rooms.free(0, 4)
    rooms.free(7, 3)
    assert rooms.take(5) is None
    rooms.free(4, 3)
    assert rooms.is_empty
    assert rooms.take(10) == 0
    assert not rooms.is_empty


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_no_room_is_taken_twice(steps):
    """Parts that are taken are inside the block and don't overlap; all of it is free again at the end."""
    rooms, taken = Rooms(100), {}
    for takes, number in steps:
        if takes and (start := rooms.take(number)) is not None:
            assert 0 <= start <= 100 - number
            assert all(start + number <= other or other + length <= start for other, length in taken.items())
            taken[start] = number
        elif not takes and taken:
            start = sorted(taken)[number % len(taken)]
            rooms.free(start, taken.pop(start))
    for start, length in taken.items():
        rooms.free(start, length)
    assert rooms.is_empty
