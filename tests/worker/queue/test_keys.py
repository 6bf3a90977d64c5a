"""The keys in Redis."""

import pytest

from worker.queue.keys import Keys


def test_keys_have_the_prefix_as_their_hash_tag() -> None:
    """So all keys of a queue are in one slot of a cluster."""
    keys = Keys("site:1")
    assert keys.frames == "{site:1}:frames"
    assert keys.counts == "{site:1}:counts"
    assert keys.dead == "{site:1}:dead"
    assert keys.accounting == "{site:1}:accounting"
    assert keys.unread == "{site:1}:unread"
    assert keys.payload("7") == "{site:1}:frame:7"


@pytest.mark.parametrize(
    ("key", "is_payload"),
    [
        (b"{site:1}:frame:7", True),
        (b"{site:1}:frame:\xff", True),
        (b"{site:1}:frame:", False),
        (b"{site:1}:frames", False),
        (b"{site:1}:frame", False),
        (b"{site:10}:frame:7", False),
        (b" {site:1}:frame:7", False),
        (b"", False),
    ],
)
def test_which_keys_are_pictures(key: bytes, is_payload: bool) -> None:
    """Those of this queue that have a name of their own."""
    assert Keys("site:1").is_payload(key) is is_payload


def test_the_default_prefix_is_documented() -> None:
    """The README's commands use it."""
    assert Keys().frames == "{hand_counter}:frames"
