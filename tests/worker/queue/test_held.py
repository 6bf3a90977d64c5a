"""Which deliveries a process holds."""

from worker.queue.delivery import Delivery
from worker.queue.held import Held


def delivery(entry_id: str, picture: bytes | None = None) -> Delivery:
    """A delivery, with a picture inside the entry or without."""
    return Delivery(entry_id, {} if picture is None else {b"stream_name": b"c", b"frame": picture}, 1)


def test_ids_are_held_until_they_are_removed() -> None:
    """Adding or removing one twice changes nothing; a snapshot is a copy."""
    held = Held()
    assert (len(held), "1-1" in held, held.snapshot()) == (0, False, [])
    held.add([delivery("1-1"), delivery("1-2")])
    held.add([delivery("1-2"), delivery("1-3")])
    snapshot = held.snapshot()
    held.remove(["1-1", "9-9"])
    held.remove(["1-1"])
    assert (len(held), "1-1" in held, "1-2" in held) == (2, False, True)
    assert sorted(snapshot) == ["1-1", "1-2", "1-3"]


def test_the_bytes_of_entries_are_added_up() -> None:
    """Each as long as its delivery is held, once; the last one counts."""
    held = Held()
    held.add([delivery("1-1", b"xxx"), delivery("1-2"), delivery("1-3", b"xx")])
    held.add([delivery("1-1", b"xxxx")])
    assert held.bytes == 8
    held.remove(["1-1", "1-2", "1-1"])
    assert held.bytes == 3
    held.remove(["1-3"])
    assert held.bytes == 0
