"""The audit of the chaos trial names each way in which the books can be wrong."""

import pytest

from chaos.audit import Books, flaws, publishing_flaws

GOOD = Books(
    added=10,
    dropped_unread=1,
    pending=0,
    accounting={"received": 9, "counted": 2, "skipped:too_soon": 5, "skipped:stale": 0, "dead:invalid_entry": 2},
    counted_ids=["1-0", "2-0"],
    dead_letters=2,
)


def changed(**counters: int) -> dict[str, int]:
    return {**GOOD.accounting, **counters}


def test_balanced_books_have_no_flaw() -> None:
    """Every entry was received or dropped, every delivery is settled once, and each settlement has its record."""
    assert flaws(GOOD, entries_deleted=False) == []
    assert flaws(Books(0, 0, 0, {}, [], 0), entries_deleted=False) == []


@pytest.mark.parametrize(
    ("books", "flaw"),
    [
        (GOOD._replace(pending=3), "3 deliveries are pending"),
        (GOOD._replace(accounting=changed(**{"skipped:stale": 1})), "9 were received, but 10 settled"),
        (GOOD._replace(accounting=changed(**{"skipped:too_soon": 4})), "9 were received, but 8 settled"),
        (GOOD._replace(accounting=changed(**{"skipped:stale": -1, "skipped:too_soon": 6})), "negative counters"),
        (GOOD._replace(added=11), "11 entries less 1 dropped unread, but 9 were received"),
        (GOOD._replace(counted_ids=["1-0", "1-0"]), "1 entries have two results, such as 1-0"),
        (GOOD._replace(counted_ids=["1-0"]), "2 were counted, but there are 1 results"),
        (GOOD._replace(dead_letters=1), "2 are dead, but the dead letters stand for 1"),
    ],
)
def test_each_flaw_is_named(books: Books, flaw: str) -> None:
    """Exactly the flaw is found."""
    (found,) = flaws(books, entries_deleted=False)
    assert found.startswith(flaw)


def test_deleted_entries_were_never_received() -> None:
    """After somebody deleted entries only the deliveries must balance."""
    assert flaws(GOOD._replace(added=12), entries_deleted=True) == []
    assert flaws(GOOD._replace(added=12, pending=1), entries_deleted=True) == ["1 deliveries are pending"]


@pytest.mark.parametrize(
    ("frames", "published", "found"),
    [
        ({"a": [1.0, 2.0], "b": [1.0]}, 3, []),
        ({"a": [1.0, 2.0, 2.0]}, 3, ["a has 1 frames twice"]),
        ({"a": [1.0, 3.0, 2.0]}, 3, ["the time of a goes back, from 3.0 to 2.0"]),
        ({"a": [1.0, 2.0, 3.0]}, 2, ["2 frames were published, but 3 were added to the queue"]),
    ],
)
def test_flaws_of_what_was_published(frames: dict[str, list[float]], published: int, found: list[str]) -> None:
    """A frame twice, a time that goes back, and a number that isn't that of the queue."""
    assert publishing_flaws(frames, published, sum(map(len, frames.values()))) == found
