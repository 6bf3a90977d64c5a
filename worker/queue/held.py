"""Which deliveries a process holds, and how many bytes of pictures came with them."""

import threading
from collections.abc import Iterable

from worker.queue.delivery import Delivery


class Held:
    """The ids of all deliveries that this process holds, shared by its threads."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        """With the bytes of the picture inside the entry."""
        self._inline_bytes = 0
        self._lock = threading.Lock()

    @property
    def inline_bytes(self) -> int:
        """The bytes of all pictures inside entries that are held."""
        return self._inline_bytes

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, entry_id: object) -> bool:
        with self._lock:
            return entry_id in self._ids

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Adds what was delivered."""
        with self._lock:
            for delivery in deliveries:
                size = len(delivery.fields.get(b"frame", b""))
                self._inline_bytes += size - self._ids.get(delivery.entry_id, 0)
                self._ids[delivery.entry_id] = size

    def remove(self, entry_ids: Iterable[str]) -> None:
        """Removes what was settled."""
        with self._lock:
            for entry_id in entry_ids:
                self._inline_bytes -= self._ids.pop(entry_id, 0)

    def snapshot(self) -> list[str]:
        """Returns a copy of the ids, in no particular order."""
        with self._lock:
            return list(self._ids)
