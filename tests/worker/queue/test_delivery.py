"""What a dead letter keeps of its entry."""

import pytest

from worker.queue.delivery import DEAD_FIELD_BYTES, DEAD_FIELDS, DEAD_MESSAGE_LENGTH, Delivery, dead_letter
from worker.queue.frame import DeadReason


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, ()),
        ({b"ts": b"soon"}, ((b"ts", b"soon"),)),
        ({b"n" * 1024: b"v" * 1024}, ((b"n" * 1024, b"v" * 1024),)),
        # Names that differ only beyond the limit are two fields.
        (
            {b"n" * 1024 + b"1": b"v" * 2000, b"n" * 1024 + b"2": b"w"},
            ((b"n" * 1024, b"v" * 1024), (b"n" * 1024, b"w")),
        ),
        ({b"%d" % i: b"" for i in range(40)}, tuple((b"%d" % i, b"") for i in range(DEAD_FIELDS))),
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
    dead = dead_letter(delivery, DeadReason.BAD_TS, "\ud800" + "m" * 1_000_000)
    assert len(dead.fields) == DEAD_FIELDS
    assert max(len(word) for field in dead.fields for word in field) == DEAD_FIELD_BYTES
    assert dead.message == "?" + "m" * (DEAD_MESSAGE_LENGTH - 1)
