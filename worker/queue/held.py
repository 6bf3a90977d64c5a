"""Which deliveries a process holds, and how many bytes came with them."""

import threading
from collections.abc import Iterable

from worker.queue.delivery import Delivery


class Held:
    """The ids of all deliveries that this process holds, shared by its threads."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        """With the bytes of the entry."""
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """The bytes of all values in entries that are held."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, entry_id: object) -> bool:
        with self._lock:
            return entry_id in self._ids

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Adds what was delivered, or replaces it."""
        with self._lock:
            for delivery in deliveries:
                size = sum(map(len, delivery.fields.values()))
                self._bytes += size - self._ids.get(delivery.entry_id, 0)
                self._ids[delivery.entry_id] = size

    def remove(self, entry_ids: Iterable[str]) -> None:
        """Removes what was settled."""
        with self._lock:
            for entry_id in entry_ids:
                self._bytes -= self._ids.pop(entry_id, 0)

    def snapshot(self) -> list[str]:
        """Returns a copy of the ids, in no particular order."""
        with self._lock:
            return list(self._ids)
