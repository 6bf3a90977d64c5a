"""The fps table: the sidecar's copy of the hash in Redis, in memory. Pure; the follower keeps it up to date.

A stream is in one of three states:

- *watched*: frames of it arrived recently. Its value is in ``watched`` and is read again at every change of the hash.
- *asleep*: it was silent for so long that reading it at every change isn't worthwhile. Its last known override is kept, in
  case its next frame arrives while Redis is unreachable; otherwise its value is read again with that frame.
- unknown: no frame ever arrived, or the stream was forgotten. The fallback is in force until its value is read. If frames
  arrive before that, it is watched, and in ``unread``: it may have an override that nobody here has seen.

A value that isn't a valid fps changes nothing: the last valid value of its field stays in force, flagged.

``watched`` holds None for "no valid field of its own", so that a change of the wildcard costs nothing per stream. A
decision reads ``watched.get(name)``, and ``fallback`` if that is None. For the same reason the times of changes are kept per
field of the hash, and not per stream.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from handcounter.pacing.limits import WILDCARD_FIELD, FpsSource, Limit, fallback, parse_fps, show

_CACHED_VALUES = 10_000
"""Distinct values whose meaning is remembered. There are few, so that streams with the same value share one float."""

_REPORTED_VALUES = 10_000
"""Distinct invalid values remembered as reported."""


NEVER_CHANGED: Final = -math.inf
"""In place of the time of a change."""


class LimitWatcher(Protocol):
    """An object that the fps table notifies at once of changed limits."""

    def limit_changed(self, stream_name: str, old_fps: float, new_fps: float) -> None:
        """Is called when the limit of one watched stream changed, frames per second."""

    def fallback_changed(self, old_fps: float, new_fps: float) -> None:
        """Is called when the limit of all streams without an override changed, frames per second."""


class FpsTable:
    """The values last read, and the limits that follow from them.

    Args:
        default: The fps of streams that the hash doesn't set a limit for, frames per second.
        on_invalid: Is called once for each distinct invalid value, with the field and the value as shown to people.
        watcher: Is notified of each change of a limit that is in force.
        on_change: Is called after the watcher with the stream, its old fps and its new limit; with the wildcard instead of a
            stream if the limit of all streams without an override changed.
        on_difference: Is called with each watched stream whose limit, source or invalid value changed, before or after the
            new one is stored; with the wildcard for all streams without an override.
        clock: Real time, seconds by the clock of the decisions.
    """

    def __init__(
        self,
        default: float,
        on_invalid: Callable[[str, str], None],
        watcher: LimitWatcher | None = None,
        on_change: Callable[[str, float, Limit], None] | None = None,
        on_difference: Callable[[str], None] | None = None,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.watched: dict[str, float | None] = {}
        """The override of each watched stream, frames per second. Others read it; only the table changes it."""
        self.fallback: Limit = fallback(None, default)
        """The limit of every stream without an override."""
        self.unread: set[str] = set()
        """The watched streams whose limit was never read, so that the fallback is only assumed. Others read it."""
        self.version = 0
        """Changes whenever the limit of a stream may have changed that was watched before."""
        self.stale = True
        """Whether the hash can't be read, so that these are the last known values."""
        self._default = default
        self._on_invalid = on_invalid
        self._watcher = watcher
        self._on_change = on_change
        self._on_difference = on_difference
        self._clock = clock
        self._fallback_since = NEVER_CHANGED
        self._since: dict[str, float] = {}
        """When the limit of a stream changed because its own field did; only streams to which that happened."""
        self._wildcard_read = False
        self._asleep: dict[str, float | None] = {}
        self._invalid: dict[str, str] = {}
        self._meanings: dict[bytes, float] = {}
        self._reported: set[bytes] = set()

    def fps(self, stream_name: str) -> float:
        """Returns the fps in force for a stream, frames per second, as far as is known."""
        override = self.watched.get(stream_name)
        if override is None and self._asleep:
            override = self._asleep.get(stream_name)
        return self.fallback.fps if override is None else override

    def limit(self, stream_name: str) -> Limit:
        """Returns the fps in force for a stream, and its source."""
        override = self.watched.get(stream_name)
        if override is None:
            override = self._asleep.get(stream_name)
        return self.fallback if override is None else Limit(override, FpsSource.OVERRIDE)

    def limit_since(self, stream_name: str) -> float:
        """Returns the real time of the last known change of a stream's limit, seconds; NEVER_CHANGED if there was none."""
        since = self._since.get(stream_name, NEVER_CHANGED)
        if self.watched.get(stream_name) is None and self._asleep.get(stream_name) is None:
            return max(since, self._fallback_since)
        return since

    def invalid_value(self, stream_name: str) -> str:
        """Returns the value that is ignored because it isn't a valid fps, the stream's own or the wildcard's; else empty.

        The last valid value of its field is in force in its place, or if there was none, what is in force without the field.
        """
        own = self._invalid.get(stream_name, "")
        hides_wildcard = own or self.limit(stream_name).source is FpsSource.OVERRIDE
        return own if hides_wildcard else self._invalid.get(WILDCARD_FIELD, "")

    def store(self, fields: Iterable[str], values: Iterable[bytes | None]) -> None:
        """Stores the values that Redis has for these streams; they are watched from now on.

        While a value isn't valid, the last valid one of its field stays in force, so that a typing error doesn't lift a pause.
        """
        watched, asleep, meanings = self.watched, self._asleep, self._meanings
        for field, raw in zip(fields, values, strict=True):
            override = None if raw is None else meanings.get(raw)
            if override is None and raw is not None:
                override = self._meaning(field, raw)
                if override is None:
                    override = watched.get(field)
                    if override is None:
                        override = asleep.get(field)
            elif self._invalid:
                self._record_invalid(field, "")
            if asleep and field in asleep and (last := asleep.pop(field)) != override:
                self._record_change(field, last, override)  # it was asleep, so nobody was told of a limit
            if self.unread or not self._wildcard_read:
                self._record_reading(field, override)
            if (old := watched.get(field, override)) != override:
                self.version += 1
                self._record_change(field, old, override)
                self._notify(field, old, override)
            watched[field] = override

    def store_wildcard(self, raw: bytes | None) -> None:
        """Stores the value that Redis has for the field ``*``; if it isn't valid, the last valid one stays in force."""
        self._wildcard_read = True
        if raw is None:
            self._record_invalid(WILDCARD_FIELD, "")
        wildcard = None if raw is None else self._meaning(WILDCARD_FIELD, raw)
        if wildcard is None and raw is not None:
            return
        limit = fallback(wildcard, self._default)
        if limit != self.fallback:
            old, self.fallback = self.fallback, limit
            self.version += 1
            if old.fps != limit.fps:
                self._fallback_since = self._clock()
            if self._watcher is not None:
                self._watcher.fallback_changed(old.fps, limit.fps)
            if self._on_change is not None:
                self._on_change(WILDCARD_FIELD, old.fps, limit)
            if self._on_difference is not None:
                self._on_difference(WILDCARD_FIELD)

    def adopt(self, stream_name: str, limit: Limit, invalid_value: str, *, was_read: bool) -> None:
        """Stores the limit of a stream as another sidecar told it; the stream is watched from now on.

        Args:
            stream_name: the stream.
            limit: its limit. If its source isn't the stream's own field, it is that of all streams without an override.
            invalid_value: the value that the other sidecar ignores; empty for none.
            was_read: whether the limit is more than an assumption of the other sidecar.
        """
        raw = repr(limit.fps).encode()
        if limit.source is FpsSource.OVERRIDE:
            self.store((stream_name,), (raw,))
        else:
            if limit.source is FpsSource.DEFAULT:
                self._default = limit.fps
            self.store_wildcard(None if limit.source is FpsSource.DEFAULT else raw)
            self.store((stream_name,), (None,))
        self._record_invalid(stream_name, invalid_value)
        if not was_read:
            self.unread.add(stream_name)

    def assume(self, stream_names: Iterable[str]) -> None:
        """Watches streams that couldn't be read: at their last known override, else at the fallback."""
        for name in stream_names:
            if name not in self.watched:
                if name not in self._asleep:
                    self.unread.add(name)
                self.watched[name] = self._asleep.pop(name, None)

    def put_to_sleep(self, stream_name: str) -> None:
        """Stops watching a silent stream; its last known override is kept, also if that is none."""
        override = self.watched.pop(stream_name, None)
        self.version += 1
        if stream_name not in self.unread:
            self._asleep[stream_name] = override
        self.unread.discard(stream_name)
        self._invalid.pop(stream_name, None)

    def names(self) -> set[str]:
        """Returns all streams that are watched or asleep."""
        return {*self.watched, *self._asleep}

    def forget(self, stream_name: str) -> None:
        """Removes everything that is known about a stream."""
        self.version += 1
        self.watched.pop(stream_name, None)
        self._asleep.pop(stream_name, None)
        self._since.pop(stream_name, None)
        self.unread.discard(stream_name)
        self._invalid.pop(stream_name, None)

    def _record_reading(self, stream_name: str, override: float | None) -> None:
        """Records that the field of a stream was read. Without an override its limit is known once the wildcard is."""
        if override is None and not self._wildcard_read:
            self.unread.add(stream_name)
        elif stream_name in self.unread:
            self.unread.discard(stream_name)
            if self._on_difference is not None:
                self._on_difference(stream_name)

    def _record_change(self, stream_name: str, old: float | None, new: float | None) -> None:
        """Records when the override of a stream changed; None stands for no override."""
        old_fps, new_fps = (self.fallback.fps if fps is None else fps for fps in (old, new))
        if old_fps != new_fps:
            self._since[stream_name] = self._clock()
        elif old is None:
            self._since[stream_name] = max(self._since.get(stream_name, NEVER_CHANGED), self._fallback_since)

    def _notify(self, stream_name: str, old: float | None, new: float | None) -> None:
        """Reports that the override of a watched stream changed; None stands for no override."""
        old_fps = self.fallback.fps if old is None else old
        limit = self.fallback if new is None else Limit(new, FpsSource.OVERRIDE)
        if self._watcher is not None:
            self._watcher.limit_changed(stream_name, old_fps, limit.fps)
        if self._on_change is not None:
            self._on_change(stream_name, old_fps, limit)
        if self._on_difference is not None:
            self._on_difference(stream_name)

    def _record_invalid(self, field: str, value: str) -> None:
        """Records the value of a field that is ignored; empty if its value is valid, or there is none."""
        if self._invalid.get(field, "") == value:
            return
        if value:
            self._invalid[field] = value
        else:
            del self._invalid[field]
        if self._on_difference is not None:
            self._on_difference(field)

    def _meaning(self, field: str, raw: bytes) -> float | None:
        """Returns the fps that a value of a field means; None if it isn't valid, which is remembered and reported."""
        fps = parse_fps(raw)
        if fps is not None:
            if len(self._meanings) >= _CACHED_VALUES:
                self._meanings.clear()
            self._record_invalid(field, "")
            return self._meanings.setdefault(raw, fps)
        shown = show(raw)
        self._record_invalid(field, shown)
        if raw not in self._reported:
            if len(self._reported) >= _REPORTED_VALUES:
                self._reported.clear()
            self._reported.add(raw)
            self._on_invalid(field, shown)
        return None
