"""How settled deliveries are written."""

import pytest

from worker.queue import accounting
from worker.queue.delivery import Counted, Dead
from worker.queue.frame import DeadReason, SkipReason


def test_a_counted_delivery_is_a_result() -> None:
    """With the ts to the last bit."""
    counted = Counted("1-1", "cam", 0.1 + 0.2, 2, "{}")
    assert accounting.encode(counted) == (
        "counted",
        ["stream_name", "cam", "ts", "0.30000000000000004", "result", "{}"],
    )


@pytest.mark.parametrize("reason", DeadReason)
def test_a_dead_delivery_is_a_dead_letter(reason: DeadReason) -> None:
    """Counted by its reason; the entry's own fields have a prefix."""
    dead = Dead("1-1", reason, "why", ((b"ts", b"soon"), (b"reason", b"x")))
    assert accounting.encode(dead) == (
        f"dead:{reason.value}",
        ["entry_id", "1-1", "reason", reason.value, "message", "why", b"field:ts", b"soon", b"field:reason", b"x"],
    )


@pytest.mark.parametrize("reason", SkipReason)
def test_skips_are_counted_by_reason(reason: SkipReason) -> None:
    """One field per reason."""
    assert accounting.skipped_field(reason) == f"skipped:{reason.value}"


def test_every_ending_has_a_field() -> None:
    """Which is how a delivery is found that has none."""
    fields = accounting.settled_fields()
    assert len(set(fields)) == len(fields) == 1 + len(SkipReason) + len(DeadReason)
