"""The limits as they stand in Redis: fields, patterns, boosts, and when they were seen to change. Pure."""

from collections.abc import Mapping

Hashes = Mapping[str, Mapping[str, str]]
"""fields, patterns and boosts, each from a name to the text that stands there."""


class LimitsView:
    """The newest reading of the hashes of limits."""

    def __init__(self) -> None:
        self._hashes: dict[str, dict[str, str]] = {"fields": {}, "patterns": {}, "boosts": {}}
        self._version = 0

    @property
    def names(self) -> list[str]:
        """The streams that have a field of their own."""
        return [name for name in self._hashes["fields"] if name != "*"]

    @property
    def hashes(self) -> dict[str, dict[str, str]]:
        """All that stands in Redis. Only for reading."""
        return self._hashes

    def field(self, name: str) -> str | None:
        """Returns the text of a stream's own field."""
        return self._hashes["fields"].get(name)

    def take(self, hashes: Hashes) -> bool:
        """Takes a reading; returns whether it differs from the one before."""
        new = {what: dict(hashes.get(what, {})) for what in self._hashes}
        if new == self._hashes:
            return False
        self._hashes = new
        self._version += 1
        return True

    def section(self) -> dict[str, object]:
        """Returns what every page is told: by the version it sees that there is something new to fetch."""
        return {"version": self._version, **{what: len(fields) for what, fields in self._hashes.items()}}
