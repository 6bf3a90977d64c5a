"""The book of leases: which changes revoke them, and who hears of it."""

import math
import time

import pytest

from sidecar.deciding.lease_book import LeaseBook, invalidates_leases
from sidecar.limits.table import FpsTable


class Holder:
    """A client that records what is revoked."""

    def __init__(self, *leased: str) -> None:
        self.leased = set(leased)
        self.revoked: list[str] = []

    def revoke(self, stream_name: str) -> None:
        self.leased.remove(stream_name)
        self.revoked.append(stream_name)

    def revoke_all(self) -> None:
        self.leased.clear()
        self.revoked.append("all")


@pytest.mark.parametrize(
    ("old", "new", "invalid"),
    [
        (1.0, 2.0, True),
        (2.0, 1.0, False),
        (1.0, 1.0, False),
        (0.0, 1.0, True),
        (1.0, 0.0, True),
        (0.0, 0.0, False),
        (1.0, math.inf, True),
        (math.inf, 1.0, False),
        (math.inf, 0.0, True),
    ],
)
def test_a_raise_and_a_pause_invalidate_leases(old: float, new: float, invalid: bool) -> None:
    """A lower limit denies all that the higher one did, and for the same reasons; a pause has a reason of its own."""
    assert invalidates_leases(old, new) is invalid


def test_a_revocation_reaches_the_holders_of_that_lease() -> None:
    """Each of them once, and no other holder."""
    book, first, second, third = LeaseBook(), Holder("a", "b"), Holder("a"), Holder("b")
    for holder in (first, second, third):
        book.open(holder)
    assert book.has_lease("a")
    book.revoke("a")
    book.revoke("a")
    assert not book.has_lease("a")
    assert book.has_lease("b")
    assert [holder.revoked for holder in (first, second, third)] == [["a"], ["a"], []]


def test_all_leases_are_revoked_at_once() -> None:
    """Every holder hears of it, whatever it holds."""
    book, first, second = LeaseBook(), Holder("a", "b"), Holder()
    book.open(first)
    book.open(second)
    book.revoke_all()
    assert (first.revoked, second.revoked) == (["all"], ["all"])


def test_a_closed_holder_hears_nothing() -> None:
    """Its leases no longer count, and closing it again does nothing."""
    book, gone, there = LeaseBook(), Holder("a"), Holder("b")
    book.open(gone)
    book.open(there)
    assert book.close(gone)
    assert not book.close(gone)
    assert not book.has_lease("a")
    book.revoke("a")
    book.revoke_all()
    assert gone.revoked == []
    assert book.holders == [there]


def test_a_changed_limit_revokes_what_it_invalidates() -> None:
    """A raise and a pause of one stream revoke its leases, a changed fallback revokes all, a lower limit none."""
    book, holder = LeaseBook(), Holder("a", "b", "c")
    book.open(holder)
    table = FpsTable(1.0, lambda _field, _value: None, book, clock=time.monotonic, wall_clock=lambda: 0.0)
    table.store(["a", "b", "c"], [b"2", b"2", None])
    table.store(["a"], [b"1"])
    table.store_wildcard(b"0.5")
    assert holder.revoked == []
    table.store(["a"], [b"3"])
    table.store(["b"], [b"0"])
    assert holder.revoked == ["a", "b"]
    table.store_wildcard(b"5")
    assert holder.revoked == ["a", "b", "all"]
