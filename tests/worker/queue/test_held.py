"""Which deliveries a process holds."""

from worker.queue.held import Held


def test_ids_are_held_until_they_are_removed() -> None:
    """Adding or removing one twice changes nothing; a snapshot is a copy."""
    held = Held()
    assert (len(held), "1-1" in held, held.snapshot()) == (0, False, [])
    held.add(["1-1", "1-2"])
    held.add(["1-2", "1-3"])
    snapshot = held.snapshot()
    held.remove(["1-1", "9-9"])
    held.remove(["1-1"])
    assert (len(held), "1-1" in held, "1-2" in held) == (2, False, True)
    assert sorted(snapshot) == ["1-1", "1-2", "1-3"]
