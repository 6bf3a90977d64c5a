"""The last hour of each stream, in memory: hands and rates every ten seconds. Pure, bounded."""

import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Final

EVERY_S: Final = 10.0
POINTS: Final = 360
"""An hour. A stream takes 4 x 5 x 360 bytes."""

COLUMNS: Final = ("hands", "source_fps", "limit", "admitted_fps", "counted_fps")
_NOTHING: Final = math.nan


class History:
    """Points of many streams, taken at the same times. An infinite limit and an unknown value are None."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._times: array[float] = array("d", [_NOTHING]) * POINTS
        self._place = 0
        self._columns: dict[str, tuple[array[float], ...]] = {}
        self._newest: dict[str, int] = {}
        """The number of the last point of each stream."""
        self._points = 0

    @property
    def streams(self) -> int:
        """How many streams have a history."""
        return len(self._columns)

    def due(self, now: float) -> bool:
        """Returns whether the next points are to be taken; also after the clock was set back."""
        last = self._times[self._place - 1]
        return not 0.0 <= now - last < EVERY_S

    def note(self, rows: Iterable[Mapping[str, object]], now: float) -> None:
        """Takes a point of each stream; streams that are new have room only while the bound isn't reached."""
        self._times[self._place] = now
        self._points += 1
        for columns in self._columns.values():
            for column in columns:
                column[self._place] = _NOTHING
        for row in rows:
            name = str(row["name"])
            if row["state"] == "unseen" or not self._has_room(name):
                continue
            for column, field in zip(self._columns[name], COLUMNS, strict=True):
                value = row[field]
                column[self._place] = float(value) if isinstance(value, int | float) else _NOTHING
            self._newest[name] = self._points
        self._place = (self._place + 1) % POINTS
        for name in [name for name, newest in self._newest.items() if self._points - newest >= POINTS]:
            del self._columns[name], self._newest[name]

    def of(self, name: str) -> dict[str, list[float | None]]:
        """Returns the points of a stream, oldest first, by column, with their times as ``at`` (Unix seconds)."""
        columns = self._columns.get(name)
        order = [*range(self._place, POINTS), *range(self._place)]
        known = [i for i in order if not math.isnan(self._times[i])]
        points: dict[str, list[float | None]] = {"at": [round(self._times[i], 1) for i in known]}
        for number, field in enumerate(COLUMNS):
            column = columns[number] if columns else None
            points[field] = [_shown(column[i]) if column else None for i in known]
        return points

    def _has_room(self, name: str) -> bool:
        if name not in self._columns:
            if len(self._columns) >= self._max_streams:
                return False
            self._columns[name] = tuple(array("f", [_NOTHING]) * POINTS for _ in COLUMNS)
        return True


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")
