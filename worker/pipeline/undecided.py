"""Deliveries that wait, because their stream's limit is unknown and the sidecar can't be asked. Pure.

The stream may be paused, so its frames are neither counted nor skipped as long as they are worth counting. Meanwhile they
are held like all others, except for pictures inside their entries: these would take the memory from frames that can be counted,
and are fetched again when their turn comes.
"""

from collections.abc import Iterable
from dataclasses import replace

from worker.queue.delivery import Delivery
from worker.queue.frame import Frame

Waiting = tuple[Frame, Delivery]


class Undecided:
    """The deliveries that wait, in the order of their entries."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, deliveries: Iterable[Waiting]) -> None:
        """Adds deliveries behind those that wait already, without pictures inside their entries."""
        self._waiting += [(replace(frame, payload=None), each.without_picture()) for frame, each in deliveries]

    def take(self) -> list[Waiting]:
        """Returns all that wait; none do afterwards."""
        taken, self._waiting = self._waiting, []
        return taken

    def take_older(self, oldest: float) -> list[Waiting]:
        """Returns the live ones that arrived before this time, Unix seconds; they don't wait afterwards."""
        older = [each for each in self._waiting if each[0].live and each[0].arrived_at < oldest]
        if older:
            self._waiting = [each for each in self._waiting if not each[0].live or each[0].arrived_at >= oldest]
        return older
