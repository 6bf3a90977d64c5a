"""Which deliveries a process holds."""

import threading
from collections.abc import Iterable


class Held:
    """The ids of all deliveries that this process holds, shared by its threads."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, entry_id: object) -> bool:
        with self._lock:
            return entry_id in self._ids

    def add(self, entry_ids: Iterable[str]) -> None:
        """Adds what was delivered."""
        with self._lock:
            self._ids.update(entry_ids)

    def remove(self, entry_ids: Iterable[str]) -> None:
        """Removes what was settled."""
        with self._lock:
            self._ids.difference_update(entry_ids)

    def snapshot(self) -> list[str]:
        """Returns a copy of the ids, in no particular order."""
        with self._lock:
            return list(self._ids)
