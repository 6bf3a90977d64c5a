"""The smoothed count of a frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.smoothing import LEAST, Smoother, smoothed


def at(fps, *counts):
    """Returns counts at this many frames per second."""
    return [(100 + number / fps, count) for number, count in enumerate(counts)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (at(1, 2), None),
        (at(1, 2, 2), None),
        (at(1, 2, 0, 2), 2),  # one frame alone has no hands
        (at(1, 2, 2, 0), 2),
        (at(1, 2, 2, 0, 0), 0),  # of four counts the last three have a part
        (at(1, 2, 2, 2, 0, 0), 2),
        (at(1, 2, 2, 2, 0, 0, 0), 0),  # a real change shows after three frames
        (at(1, 0, 9, 2, 1, 2), 2),
        (at(25, 0, 0, 0, 1, 1, 1), 1),  # the last five, however fast
        (at(0.92, 2, 0, 2), 2),
        (at(0.8, 2, 0, 2), None),  # too rarely
        ([(101, 2), (102, 2), (104, 0), (104.5, 0), (105, 0)], 0),  # often enough on average
        ([(100, 2), (101, 2), (104, 0), (104.5, 0), (105, 0)], None),
        ([(100, 2), (101, 2), (106.5, 0)], None),  # after a gap
        ([(100, 2), (100.5, 2), (101, 2), (105.9, 0), (106, 0)], None),  # those before it are too old
    ],
)
def test_the_median_of_the_last_counts(counts, expected):
    """Up to five counts of the last five seconds have a part, if there are at least three and they come often enough."""
    assert smoothed(counts, counts[-1][0]) == expected


def test_later_frames_have_no_part():
    """A frame's smoothed count depends on the frames before it alone."""
    counts = at(1, 1, 1, 1, 5, 5, 5)
    assert smoothed(counts, 102) == 1


@given(st.lists(st.integers(0, 9), min_size=LEAST, max_size=12), st.floats(1, 30))
def test_it_is_one_of_the_counts(counts, fps):
    """The smoothed count is one of the last five, and the same as the counts if they are all the same."""
    frames = at(fps, *counts)
    assert smoothed(frames, frames[-1][0]) in counts[-5:]
    assert smoothed(at(fps, *[7] * len(counts)), frames[-1][0]) == 7


def test_streams_are_apart():
    """Each stream has its own counts."""
    smoother = Smoother()
    for second in range(5):
        assert smoother.add("cam1", second, 1) in (None, 1)
        assert smoother.add("cam2", second, 2) in (None, 2)
    assert (smoother.add("cam1", 5, 1), smoother.add("cam2", 5, 2)) == (1, 2)


def test_frames_out_of_order():
    """Threads count side by side: a frame that comes late is smoothed with those before it."""
    smoother = Smoother()
    for second, count in ((0, 1), (1, 1), (3, 4), (4, 4)):
        smoother.add("cam1", second, count)
    assert smoother.add("cam1", 2, 1) == 1
    assert smoother.add("cam1", 5, 4) == 4


def test_a_frame_that_is_counted_again_counts_once():
    """A delivery that was repeated doesn't fill the window."""
    smoother = Smoother()
    assert [smoother.add("cam1", 0, 3) for _ in range(5)] == [None] * 5


def test_a_clock_that_goes_back():
    """A camera that was restarted begins anew."""
    smoother = Smoother()
    for second in range(100, 105):
        smoother.add("cam1", second, 3)
    assert [smoother.add("cam1", second, 1) for second in range(3)] == [None, None, 1]


def test_the_streams_are_bounded():
    """Beyond the bound the stream that was counted least recently is forgotten."""
    smoother = Smoother(most_streams=2)
    for second in range(3):
        for stream in ("a", "b"):
            smoother.add(stream, second, 1)
    smoother.add("c", 0, 1)
    assert smoother.add("b", 3, 1) == 1
    assert smoother.add("a", 3, 1) is None
