"""The keys in Redis."""

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


def test_the_default_prefix_is_documented() -> None:
    """The README's commands use it."""
    assert Keys().frames == "{hand_counter}:frames"
