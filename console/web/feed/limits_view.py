"""The limits as they stand in Redis, and which is in force where no sidecar says it. Pure."""

from collections.abc import Mapping
from typing import Final

from console.control.changes import Snapshot
from console.control.rule import in_force

SHOWN: Final = 64
"""Characters of a value that are shown in a row."""


class LimitsView:
    """The newest reading of the hashes of limits."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._version = 0

    @property
    def names(self) -> list[str]:
        """The streams that have a field of their own."""
        return [name for name in self._snapshot.limits if name != "*"]

    @property
    def snapshot(self) -> Snapshot:
        """All that stands in Redis."""
        return self._snapshot

    @property
    def version(self) -> int:
        """How often it was seen to change."""
        return self._version

    def field(self, name: str) -> str | None:
        """Returns the text of a stream's own field."""
        return self._snapshot.limits.get(name)

    def take(self, snapshot: Snapshot) -> bool:
        """Takes a reading; returns whether it differs from the one before."""
        if snapshot == self._snapshot:
            return False
        self._snapshot = snapshot
        self._version += 1
        return True

    def expected(self, name: str, now: float) -> tuple[float | None, str, str]:
        """Returns the limit that Redis alone tells: fps (None: --fps), its source, and a bad value of the stream's field."""
        found = in_force(name, self._snapshot, now)
        return found.fps, found.source, found.invalid

    def of_row(self, name: str) -> Mapping[str, object]:
        """Returns what a stream's row says about its limits in Redis."""
        field = self.field(name)
        found = self._snapshot.boosts_in_force.get(name)
        return {
            "field": None if field is None else field[:SHOWN],
            "boost_until": round(found.until, 1) if found else None,
        }

    def section(self) -> dict[str, object]:
        """Returns what every page is told: by the version it sees that there is something new to fetch."""
        limits = self._snapshot
        return {
            "version": self._version,
            "limits": len(limits.limits),
            "patterns": len(limits.patterns),
            "boosts": len(limits.boosts),
        }
