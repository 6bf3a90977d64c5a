"""What a dead letter keeps of its entry."""

import pytest

from worker.queue.delivery import DEAD_FIELDS_BYTES, Delivery, dead_letter
from worker.queue.frame import DeadReason


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, ()),
        ({b"ts": b"soon"}, ((b"ts", b"soon"),)),
        ({b"n" * 512: b"v" * 512}, ((b"n" * 512, b"v" * 512),)),
        # Names that differ only beyond the limit are two fields.
        (
            {b"n" * 512 + b"1": b"v" * 600, b"n" * 512 + b"2": b"w"},
            ((b"n" * 512, b"v" * 512), (b"n" * 512, b"w")),
        ),
        # What says most comes first; what has no room is left out.
        (
            {**{b"%d" % i: b"x" * 512 for i in range(40)}, b"ts": b"soon", b"stream_name": b"cam"},
            ((b"ts", b"soon"), (b"stream_name", b"cam"), *((b"%d" % i, b"x" * 512) for i in range(3))),
        ),
    ],
)
def test_fields_are_kept_up_to_a_limit(fields: dict[bytes, bytes], kept: tuple[tuple[bytes, bytes], ...]) -> None:
    """The first ones, in their order, each shortened."""
    dead = dead_letter(Delivery("1-1", fields, 1), DeadReason.BAD_TS, "no number")
    assert dead.fields == kept
    assert (dead.entry_id, dead.reason, dead.message) == ("1-1", DeadReason.BAD_TS, "no number")


def test_a_huge_entry_becomes_a_small_letter() -> None:
    """Whatever its fields and the message are; the message can be encoded."""
    delivery = Delivery("1-1", {b"%d" % i * 5000: b"x" * 1_000_000 for i in range(100)}, 1)
    dead = dead_letter(delivery, DeadReason.BAD_TS, "\ud800" + "\U0001f44b" * 1_000_000)
    assert 0 < sum(len(word) for field in dead.fields for word in field) <= DEAD_FIELDS_BYTES
    assert dead.message == "?" + "\U0001f44b" * 127


def test_many_small_fields_become_a_small_letter() -> None:
    """Their number is bounded by what each takes besides its name and value."""
    dead = dead_letter(Delivery("1-1", {b"%d" % i: b"" for i in range(100_000)}, 1), DeadReason.BAD_TS, "")
    assert len(dead.fields) <= DEAD_FIELDS_BYTES / 16
