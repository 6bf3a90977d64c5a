"""Where a reply ends, however it is cut."""

import itertools
from collections.abc import Sequence

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.queue.reply_end import ReplyEnd

REPLIES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":-5\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$5\r\n*1\r\n$\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n*0\r\n*2\r\n$1\r\n\n\r\n:1\r\n",
    b"*1\r\n*2\r\n$5\r\nqueue\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$5\r\nframe\r\n$4\r\n\r\n\r\n\r\n",
]


def ends(reply: bytes, cuts: Sequence[int]) -> list[bool]:
    """Feeds a reply in pieces; returns after which of them it ended."""
    end, edges = ReplyEnd(), [0, *sorted(cuts), len(reply)]
    passed = []
    for start, stop in itertools.pairwise(edges):
        end.feed(reply, start, stop - start)
        passed.append(end.passed)
    return passed


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_ends_with_its_last_byte(reply: bytes) -> None:
    """Whole, or byte by byte."""
    end = ReplyEnd()
    end.feed(reply)
    assert end.passed
    assert ends(reply, range(1, len(reply))) == [False] * (len(reply) - 1) + [True]


def encoded(value: object) -> bytes:
    """Returns a value as Redis sends it."""
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*-1\r\n" if value is None else b":%d\r\n" % value


values = st.recursive(
    st.none() | st.integers(-9, 99) | st.binary(max_size=30) | st.sampled_from(REPLIES),
    lambda each: st.lists(each, max_size=4),
)


@given(values, st.data())
def test_it_ends_where_hiredis_ends(value: object, data: st.DataObject) -> None:
    """Whatever is in it."""
    reply = encoded(value)
    cuts = data.draw(st.lists(st.integers(1, len(reply) - 1), max_size=5))
    *before, last = ends(reply, cuts)
    assert last
    assert not any(before)
    reader = hiredis.Reader()
    reader.feed(reply)
    assert reader.gets() == value
