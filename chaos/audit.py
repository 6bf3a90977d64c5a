"""What must hold of a queue's accounting once nothing is pending, and of what cameras have published. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple


class Books(NamedTuple):
    """What Redis has to say about the frames of a queue."""

    added: int
    """Entries that publishers have ever added to the queue."""
    dropped_unread: int
    """Entries that the queue dropped before any worker read them."""
    pending: int
    """Deliveries that aren't settled."""
    accounting: Mapping[str, int]
    """received, counted, skipped:<reason> and dead:<reason>."""
    counted_ids: Sequence[str]
    """The entry of each result."""
    dead_letters: int
    """Deliveries that the dead letters stand for."""


def flaws(books: Books, *, entries_deleted: bool) -> list[str]:
    """Returns what is wrong with accounting that should balance, a sentence for each flaw.

    Args:
        books: after the last delivery was settled.
        entries_deleted: whether anybody deleted the queue, or entries of it, so that not all that were added can have been
            received.
    """
    settled = dict(books.accounting)
    received, counted = settled.pop("received", 0), settled.get("counted", 0)
    dead = sum(number for field, number in settled.items() if field.startswith("dead:"))
    found = []
    if books.pending:
        found.append(f"{books.pending} deliveries are pending")
    if received != sum(settled.values()):
        found.append(f"{received} were received, but {sum(settled.values())} settled")
    if negative := {field: number for field, number in settled.items() if number < 0}:
        found.append(f"negative counters: {negative}")
    if not entries_deleted and received != books.added - books.dropped_unread:
        found.append(f"{books.added} entries less {books.dropped_unread} dropped unread, but {received} were received")
    if twice := [entry_id for entry_id, times in Counter(books.counted_ids).items() if times > 1]:
        found.append(f"{len(twice)} entries have two results, such as {twice[0]}")
    if counted != len(books.counted_ids):
        found.append(f"{counted} were counted, but there are {len(books.counted_ids)} results")
    if dead != books.dead_letters:
        found.append(f"{dead} are dead, but the dead letters stand for {books.dead_letters}")
    return found


def publishing_flaws(frames: Mapping[str, Sequence[float]], published: int, added: int) -> list[str]:
    """Returns what is wrong with the frames of cameras in a queue, a sentence for each flaw.

    Args:
        frames: capture times by stream, in the order of the queue.
        published: frames that the publisher says it has published.
        added: frames in the queue since its start.
    """
    found = []
    for name, times in sorted(frames.items()):
        if twice := len(times) - len(set(times)):
            found.append(f"{name} has {twice} frames twice")
        if back := [(a, b) for a, b in pairwise(times) if b < a]:
            found.append(f"the time of {name} goes back, from {back[0][0]} to {back[0][1]}")
    if published != added:
        found.append(f"{published} frames were published, but {added} were added to the queue")
    return found
