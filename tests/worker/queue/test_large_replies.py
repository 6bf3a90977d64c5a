"""What is asked of the C library while replies are read."""

from worker.queue.large_replies import LARGE_BYTES, LargeReplies

APART, AS_BEFORE = (-3, LARGE_BYTES), [(-3, 32 << 20), (-1, 64 << 20)]


class Library:
    """Notes what it is asked for, at a time that a test sets."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.now = 100.0
        self.replies = LargeReplies(
            lambda parameter, value: self.calls.append((parameter, value)),
            lambda pad: self.calls.append(("trim", pad)),
            lambda: self.now,
        )

    def read(self) -> list[object]:
        """Reads a reply; returns what was asked for meanwhile."""
        self.calls = []
        with self.replies.reading():
            pass
        return self.calls


def test_small_replies_change_nothing() -> None:
    """As long as no large one has come, all is left to the C library."""
    library = Library()
    library.replies.note(LARGE_BYTES - 1)
    assert library.read() == []


def test_after_a_large_reply_large_blocks_are_apart_while_replies_are_read() -> None:
    """What the first one left in the heap is given back at the next ones, for a while and not at each of them."""
    library = Library()
    library.replies.note(LARGE_BYTES)
    assert library.read() == [APART, ("trim", 0), *AS_BEFORE]
    assert library.read() == [APART, *AS_BEFORE]
    library.now += 1.0
    assert library.read() == [APART, ("trim", 0), *AS_BEFORE]
    library.now += 10.0
    library.replies.note(LARGE_BYTES)
    assert library.read() == [APART, *AS_BEFORE]


def test_several_threads_read_at_once() -> None:
    """The last one that ends restores how blocks are kept."""
    library = Library()
    library.replies.note(LARGE_BYTES)
    library.now += 11.0
    with library.replies.reading():
        with library.replies.reading():
            pass
        assert library.calls == [APART]
    assert library.calls == [APART, *AS_BEFORE]


def test_another_c_library() -> None:
    """Without these functions nothing is asked for."""
    replies = LargeReplies(None, None)
    replies.note(LARGE_BYTES)
    with replies.reading():
        pass
