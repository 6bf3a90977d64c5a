"""The fps table: the sidecar's view of the hash in Redis, in memory. No I/O; see fps_follower for how it is kept true.

A stream is in one of three places:

- *watched*: it was asked about lately. Its value is in ``watched`` and is read again at every change of the hash.
- *asleep*: it was silent for so long that reading it at every change isn't worth it. Its last known override is kept,
  for the case that it speaks again while Redis is away; otherwise the value is read anew with its first frame.
- unknown: never asked about, or forgotten. The fallback holds until its value was read.

``watched`` holds None for "no valid field of its own", so that a change of the wildcard or the default costs nothing
per stream. Whoever decides reads ``watched.get(name)``, and ``fallback`` where that is None.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from sidecar.limits.values import WILDCARD_FIELD, FpsSource, Limit, fallback, parse_fps, show

_CACHED_VALUES = 10_000
"""Distinct values whose meaning is remembered; a fleet has few, so streams share one float per value."""

_REPORTED_VALUES = 10_000
"""Distinct invalid values remembered as reported."""


class LimitWatcher(Protocol):
    """An object that the fps table notifies at once of changed limits."""

    def limit_changed(self, stream_name: str, old_fps: float, new_fps: float) -> None:
        """Is called when the limit of one watched stream changed, frames per second."""

    def fallback_changed(self, old_fps: float, new_fps: float) -> None:
        """Is called when the limit of all streams without an override changed, frames per second."""


class FpsTable:
    """The values last read, and what they mean for a stream.

    Args:
        default: the fps where the hash says nothing, frames per second.
        on_invalid: called once for each distinct invalid value, with the field and the value as shown to people.
        watcher: is notified of each change of a limit that is in force.
    """

    def __init__(
        self, default: float, on_invalid: Callable[[str, str], None], watcher: LimitWatcher | None = None
    ) -> None:
        self.watched: dict[str, float | None] = {}
        """The override of each watched stream, frames per second. To be read by others, written only here."""
        self.fallback: Limit = fallback(None, default)
        """The limit of every stream without an override."""
        self.version = 0
        """Another number after each change that may concern a stream that was watched before it."""
        self.stale = True
        """Whether Redis is out of reach, so that these are the last known values."""
        self._default = default
        self._on_invalid = on_invalid
        self._watcher = watcher
        self._asleep: dict[str, float] = {}
        self._invalid: dict[str, str] = {}
        self._meanings: dict[bytes, float] = {}
        self._reported: set[bytes] = set()

    def fps(self, stream_name: str) -> float:
        """The limit in force for a stream, frames per second, as far as is known."""
        override = self.watched.get(stream_name)
        if override is None and self._asleep:
            override = self._asleep.get(stream_name)
        return self.fallback.fps if override is None else override

    def limit(self, stream_name: str) -> Limit:
        """The same with where it came from."""
        override = self.watched.get(stream_name)
        if override is None:
            override = self._asleep.get(stream_name)
        return self.fallback if override is None else Limit(override, FpsSource.OVERRIDE)

    def invalid_value(self, stream_name: str) -> str:
        """The value that is ignored because it is no valid fps, the stream's own or the wildcard's; else empty."""
        own = self._invalid.get(stream_name, "")
        hides_wildcard = own or self.limit(stream_name).source is FpsSource.OVERRIDE
        return own if hides_wildcard else self._invalid.get(WILDCARD_FIELD, "")

    def store(self, fields: Iterable[str], values: Iterable[bytes | None]) -> None:
        """Takes in what Redis has for these streams; they are watched from now on."""
        watched, asleep, meanings = self.watched, self._asleep, self._meanings
        for field, raw in zip(fields, values, strict=True):
            override = None if raw is None else meanings.get(raw)
            if override is None and raw is not None:
                override = self._meaning(field, raw)
            elif self._invalid:
                self._invalid.pop(field, None)
            if asleep:
                asleep.pop(field, None)  # it is awake, and what was known of it is old
            if (old := watched.get(field, override)) != override:
                self.version += 1
                if self._watcher is not None:
                    fallback_fps = self.fallback.fps
                    self._watcher.limit_changed(
                        field, fallback_fps if old is None else old, fallback_fps if override is None else override
                    )
            watched[field] = override

    def store_wildcard(self, raw: bytes | None) -> None:
        """Takes in what Redis has for the field ``*``."""
        self._invalid.pop(WILDCARD_FIELD, None)
        limit = fallback(None if raw is None else self._meaning(WILDCARD_FIELD, raw), self._default)
        if limit != self.fallback:
            old, self.fallback = self.fallback, limit
            self.version += 1
            if self._watcher is not None:
                self._watcher.fallback_changed(old.fps, limit.fps)

    def clear(self) -> None:
        """Takes in that the hash has no fields that could be read: it is of another type."""
        self.store(self.watched, [None] * len(self.watched))
        self._asleep.clear()
        self._invalid.clear()
        self.version += 1
        self.store_wildcard(None)

    def assume(self, stream_names: Iterable[str]) -> None:
        """Watches streams that couldn't be read: at what was last known about them, else at the fallback."""
        for name in stream_names:
            if name not in self.watched:
                self.watched[name] = self._asleep.pop(name, None)

    def put_to_sleep(self, stream_name: str) -> None:
        """Stops watching a stream that fell silent; its last known value is kept."""
        override = self.watched.pop(stream_name, None)
        self.version += 1
        if override is not None:
            self._asleep[stream_name] = override
        self._invalid.pop(stream_name, None)

    def names(self) -> set[str]:
        """All streams that something is known about."""
        return {*self.watched, *self._asleep}

    def forget(self, stream_name: str) -> None:
        """Drops everything about a stream."""
        self.version += 1
        self.watched.pop(stream_name, None)
        self._asleep.pop(stream_name, None)
        self._invalid.pop(stream_name, None)

    def _meaning(self, field: str, raw: bytes) -> float | None:
        fps = parse_fps(raw)
        if fps is not None:
            if len(self._meanings) >= _CACHED_VALUES:
                self._meanings.clear()
            self._invalid.pop(field, None)
            return self._meanings.setdefault(raw, fps)
        shown = show(raw)
        self._invalid[field] = shown
        if raw not in self._reported:
            if len(self._reported) >= _REPORTED_VALUES:
                self._reported.clear()
            self._reported.add(raw)
            self._on_invalid(field, shown)
        return None
