"""All rows that the page shows, and what has changed since the viewers were told last. Pure.

Rows have numbers, because names may be long: a change of a row names its number. A stream stays for an hour after its last
sign of life, so that a camera which fell silent is still seen; the number of streams is bounded.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from console.web.feed.facts import CameraSaid, Counted, Paced
from console.web.feed.rows import Row, row_of

KEPT_S: Final = 3600.0

Diff = dict[str, object]
"""JSON: rows (number → changed fields), gone (numbers) and changed sections by name."""


class Board:
    """The rows, and sections such as the fleet, which are told whole."""

    def __init__(self, max_streams: int, more: Callable[[str], Mapping[str, object]] = lambda _name: {}) -> None:
        """Takes the bound on streams, and what else a row says about a stream."""
        self._more = more
        self._max_streams = max_streams
        self._numbers: dict[str, int] = {}
        self._next = itertools.count(1)
        self._rows: dict[int, Row] = {}
        self._heard: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        """When something was last known of each stream, Unix seconds."""
        self._sections: dict[str, object] = {}
        self._told: dict[str, object] = {}
        self.left_out = 0
        """Streams beyond the bound at the last update."""

    @property
    def names(self) -> list[str]:
        """The streams that have rows."""
        return list(self._numbers)

    def row(self, name: str) -> Row | None:
        """Returns the row of a stream."""
        number = self._numbers.get(name)
        return None if number is None else self._rows.get(number)

    def rows(self) -> Iterable[Row]:
        """Returns all rows. Only for reading."""
        return self._rows.values()

    def section(self, name: str, value: object) -> None:
        """Sets a section; the viewers are told at the next update if it has changed."""
        self._sections[name] = value

    def snapshot(self) -> Diff:
        """Returns everything that the viewers have been told."""
        return {"rows": [[number, row] for number, row in self._rows.items()], **self._told}

    def update(
        self,
        counted: Mapping[str, Counted],
        paced: Mapping[str, Paced],
        cameras: Mapping[str, CameraSaid],
        alive: Iterable[str],
        now: float,
    ) -> Diff:
        """Takes the newest facts, and returns what has changed; empty if nothing has.

        Args:
            counted: What the workers say, by stream.
            paced: What is known about the limits, by stream.
            cameras: What publishers say, by stream.
            alive: Streams that have rows besides those that the workers speak of.
            now: Unix seconds by Redis' clock.
        """
        for name in dict.fromkeys([*counted, *cameras, *alive]):
            self._seen[name] = now
        self._bound(now)
        changes: list[list[object]] = []
        for name in self._seen:
            heard = max(self._heard.get(name, 0.0), counted[name].heard_at if name in counted else 0.0)
            self._heard[name] = heard
            row = row_of(name, counted.get(name), paced.get(name), cameras.get(name), heard, now)
            row |= self._more(name)
            if changed := self._put(name, row):
                changes.append(changed)
        gone = [self._remove(name) for name in [name for name in self._numbers if name not in self._seen]]
        diff: Diff = {}
        if changes:
            diff["rows"] = changes
        if gone:
            diff["gone"] = gone
        for section, value in self._sections.items():
            if section not in self._told or self._told[section] != value:
                diff[section] = value
                self._told[section] = value
        return diff

    def _put(self, name: str, row: Row) -> list[object]:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = next(self._next)
            self._rows[number] = row
            return [number, row]
        old = self._rows[number]
        changed = {field: value for field, value in row.items() if old.get(field) != value}
        self._rows[number] = row
        return [number, changed] if changed else []

    def _remove(self, name: str) -> int:
        number = self._numbers.pop(name)
        del self._rows[number]
        self._heard.pop(name, None)
        return number

    def _bound(self, now: float) -> None:
        """Forgets streams that are gone for long, and those beyond the bound, the longest unseen first."""
        old = [name for name, seen in self._seen.items() if now - seen > KEPT_S]
        beyond = len(self._seen) - len(old) - self._max_streams
        self.left_out = max(0, beyond)
        if beyond > 0:
            kept = sorted(
                self._seen.keys() - set(old), key=lambda name: (name in self._numbers, self._seen[name], name)
            )
            old += kept[:beyond]
        for name in old:
            del self._seen[name]
