"""What is asked of the C library while large replies are read."""

from worker.queue.large_replies import LARGE_BYTES, LargeReplies

APART, AS_BEFORE = (-3, LARGE_BYTES), [(-3, 32 << 20), (-1, 64 << 20)]


def test_large_blocks_are_apart_until_the_last_large_reply_is_read() -> None:
    """Several threads may read at once."""
    calls: list[object] = []
    replies = LargeReplies(lambda parameter, value: calls.append((parameter, value)))
    replies.begin()
    replies.begin()
    replies.end()
    assert calls == [APART]
    replies.end()
    assert calls == [APART, *AS_BEFORE]


def test_another_c_library() -> None:
    """Without this function nothing is asked for."""
    replies = LargeReplies(None)
    replies.begin()
    replies.end()
