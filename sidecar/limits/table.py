"""The fps table: the sidecar's copy of the limits in Redis, in memory. Pure; the follower keeps it up to date.

A stream is in one of three states:

- *watched*: frames of it arrived recently. Its value is in ``watched`` and is read again at every change of the hash.
- *asleep*: it was silent for so long that reading it at every change isn't worthwhile. Its last known override is kept, in
  case its next frame arrives while Redis is unreachable; otherwise its value is read again with that frame.
- unknown: no frame ever arrived, or the stream was forgotten. The fallback is in force until its value is read. If frames
  arrive before that, it is watched, and in ``unread``: it may have an override that nobody here has seen.

A value that isn't a valid fps changes nothing: the last valid value of its field stays in force, flagged.

``watched`` holds None for a stream without a limit of its own (no valid field, no pattern, no boost), so that a change of the
wildcard costs nothing per stream. A decision reads ``watched.get(name)``, and ``fallback`` if that is None: which of the
limits is in force was found out when one of them changed. For the same reason the times of changes are kept per limit, and
not per stream.

Patterns and boosts are known whole. ``_layered`` has the streams whose limit one of them sets; there, and in ``_asleep``, is
also their own field. The pattern that matches a stream is sought once for each version of the patterns.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from handcounter.pacing.limits import WILDCARD_FIELD, FpsSource, Limit, fallback
from sidecar.limits.field_values import FieldValues
from sidecar.limits.layers import Layered, Layers, LimitInForce
from sidecar.limits.unread import Unread

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
            stream if the limit of all streams without one of their own changed.
        on_difference: Is called with each watched stream whose limit, source or invalid value changed, before or after the
            new one is stored; with the wildcard for all streams without a limit of their own.
        on_pattern: Is called with each pattern that changed, and its limit before and now, frames per second; None for none.
            There is no on_change for the streams that it is about.
        clock: Real time, seconds by the clock of the decisions.
        wall_clock: Unix seconds, by which boosts end.
    """

    def __init__(
        self,
        default: float,
        on_invalid: Callable[[str, str], None],
        watcher: LimitWatcher | None = None,
        on_change: Callable[[str, float, Limit], None] | None = None,
        on_difference: Callable[[str], None] | None = None,
        on_pattern: Callable[[str, float | None, float | None], None] | None = None,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.watched: dict[str, float | None] = {}
        """The limit of each watched stream, frames per second; None: the fallback. Only the table changes it."""
        self.fallback: Limit = fallback(None, default)
        """The limit of every stream without a limit of its own."""
        self.layers = Layers(wall_clock)
        """The patterns and boosts. Others read it; only the table changes it."""
        self.on_boost: Callable[[], None] = lambda: None
        """Is called when a boost comes into force, so that its owner asks again when the next one ends."""
        self._unread = Unread(on_difference)
        self.unread = self._unread.names
        """The watched streams whose limit was never read, so that the fallback is only assumed. Others read it."""
        self.version = 0
        """Changes whenever the limit of a stream may have changed that was watched before."""
        self.stale = True
        """Whether the hash can't be read, so that these are the last known values."""
        self._default = default
        self._watcher = watcher
        self._on_change = on_change
        self._on_difference = on_difference
        self._on_pattern = on_pattern
        self._clock = clock
        self._fallback_since = NEVER_CHANGED
        self._layers_since = NEVER_CHANGED
        """When the patterns or the boosts last changed."""
        self._since: dict[str, float] = {}
        """When the limit of a stream changed because its own field did; only streams to which that happened."""
        self._asleep: dict[str, float | None] = {}
        self._layered: dict[str, Layered] = {}
        """The watched streams whose limit a pattern or a boost sets."""
        self._boosted: dict[str, float] = {}
        """Those of them that are boosted, and when that ends."""
        self._values = FieldValues(on_invalid, on_difference)

    def fps(self, stream_name: str) -> float:
        """Returns the fps in force for a stream, frames per second, as far as is known."""
        fps = self.watched.get(stream_name)
        if fps is None and (self._asleep or self.layers.exist) and stream_name not in self.watched:
            fps, _ = self.layers.resolve(stream_name, self._asleep.get(stream_name), self.fallback, keep=False)
        return self.fallback.fps if fps is None else fps

    def limit(self, stream_name: str) -> Limit:
        """Returns the fps in force for a stream, and its source."""
        layered = self._layered.get(stream_name) if self._layered else None
        fps = self.watched.get(stream_name)
        if fps is None and (self._asleep or self.layers.exist) and stream_name not in self.watched:
            fps, _, layered = self._state(stream_name)
        if layered is not None:
            return Limit(layered.limit.fps, layered.limit.source)
        return self.fallback if fps is None else Limit(fps, FpsSource.OVERRIDE)

    def limit_in_force(self, stream_name: str) -> LimitInForce:
        """Returns the limit of a stream in detail."""
        fps, _, layered = self._state(stream_name)
        if layered is not None:
            return layered.limit
        return LimitInForce(*self.fallback) if fps is None else LimitInForce(fps, FpsSource.OVERRIDE)

    def limit_since(self, stream_name: str) -> float:
        """Returns the real time of the last known change of a stream's limit, seconds; NEVER_CHANGED if there was none."""
        since = self._since.get(stream_name, NEVER_CHANGED)
        if self.watched.get(stream_name) is None and self._asleep.get(stream_name) is None:
            return max(since, self._fallback_since)
        return since

    def invalid_value(self, stream_name: str) -> str:
        """Returns the value that is ignored because it isn't valid: of its field, its boost, its pattern or the wildcard.

        The last valid value of its field is in force in its place, or if there was none, what is in force without the field.
        Empty if there is no such value.
        """
        if value := self._values.invalid.get(stream_name, "") or self.layers.invalid_boost(stream_name):
            return value
        _, own, layered = self._state(stream_name)
        if own is not None:
            return ""
        if value := self.layers.invalid_pattern(stream_name, layered):
            return value
        return "" if layered is not None else self._values.invalid.get(WILDCARD_FIELD, "")

    def store(self, fields: Iterable[str], values: Iterable[bytes | None]) -> None:
        """Stores the values that Redis has for these streams; they are watched from now on.

        While a value isn't valid, the last valid one of its field stays in force, so that a typing error doesn't lift a pause.
        """
        watched, asleep, meanings = self.watched, self._asleep, self._values.meanings
        for field, raw in zip(fields, values, strict=True):
            own = None if raw is None else meanings.get(raw)
            if own is None and raw is not None:
                own = self._values.meaning(field, raw)
                if own is None:
                    own = self._own(field)
            elif self._values.invalid:
                self._values.record_invalid(field, "")
            if asleep and field in asleep:
                self._record_waking(field, asleep.pop(field), own)
            if self.unread or not self._unread.complete:
                self._unread.record(field, has_field=own is not None)
            if self.layers.exist or self._layered:
                self._enter(field, own)
            elif watched.get(field, own) != own:
                self._replace(field, own, None)
            else:
                watched[field] = own

    def store_wildcard(self, raw: bytes | None) -> None:
        """Stores the value that Redis has for the field ``*``; if it isn't valid, the last valid one stays in force."""
        if raw is None:
            self._values.record_invalid(WILDCARD_FIELD, "")
        wildcard = None if raw is None else self._values.meaning(WILDCARD_FIELD, raw)
        self._unread.record_wildcard()
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
            # A boost may be of a stream that is paused or not by now, and its message tells what follows it.
            for name in self.layers.boosts.values:
                if name in self.watched:
                    self._enter(name, self._own(name))

    def await_patterns(self) -> None:
        """Takes limits that depend on the patterns for unread until those are stored for the first time."""
        self._unread.await_patterns()

    def assume_patterns(self) -> None:
        """Takes the patterns for known that were last stored, because they can't be read."""
        self._unread.record_patterns()

    def store_patterns(self, fields: Mapping[bytes, bytes]) -> bool:
        """Stores all patterns in Redis; returns whether the watched streams have to be refreshed now (see :meth:`refresh`)."""
        before = self.layers.patterns.values
        changed = self.layers.store_patterns(fields)
        if changed:
            self._layers_since = self._clock()
            after = self.layers.patterns.values
            for pattern in sorted(changed):
                old, new = before.get(pattern), after.get(pattern)
                if old != new and self._on_pattern is not None:
                    self._on_pattern(pattern, old, new)
        self.assume_patterns()
        return bool(changed)

    def refresh(self, stream_names: Iterable[str]) -> None:
        """Applies the patterns that were stored to some of the watched streams; the others go on as before until their turn."""
        for name in stream_names:
            if name in self.watched:
                self._enter(name, self._own(name), is_pattern=True)
                if self._on_difference is not None and self.layers.changed(name):
                    self._on_difference(name)

    def store_boosts(self, fields: Mapping[bytes, bytes]) -> bool:
        """Stores all boosts in Redis, and applies them; returns False: no stream has to be refreshed."""
        changed = self.layers.store_boosts(fields)
        if changed:
            self._layers_since = self._clock()
        for name in changed:
            if name in self.watched:
                self._enter(name, self._own(name))
                if self._on_difference is not None:
                    self._on_difference(name)
        return False

    def end_boosts(self) -> None:
        """Ends the boosts whose time has come; to be called then (see :meth:`next_boost_end`)."""
        now = self.layers.wall_clock()
        for name in [name for name, until in self._boosted.items() if until <= now]:
            own, limit = self._layered[name]
            if name in self.layers.boosts.values:
                self._enter(name, own)
            else:  # told by another sidecar; what it doesn't say is as for a source that isn't known
                then = limit.after_boost or LimitInForce(limit.fps, FpsSource.OVERRIDE)
                self.adopt(name, then, self._values.invalid.get(name, ""), was_read=name not in self.unread)

    def next_boost_end(self) -> float | None:
        """Returns when the next boost of a watched stream ends, Unix seconds; None if none is in force."""
        return min(self._boosted.values(), default=None)

    def adopt(self, stream_name: str, limit: LimitInForce, invalid_value: str, *, was_read: bool) -> None:
        """Stores the limit of a stream as another sidecar told it; the stream is watched from now on.

        Args:
            stream_name: the stream.
            limit: its limit. If its source is the wildcard or the default, it is that of all streams without one of their own.
            invalid_value: the value that the other sidecar ignores; empty for none.
            was_read: whether the limit is more than an assumption of the other sidecar.
        """
        raw = repr(limit.fps).encode()
        if limit.source is FpsSource.OVERRIDE:
            self.store((stream_name,), (raw,))
        elif limit.source in (FpsSource.PATTERN, FpsSource.BOOST):
            self._asleep.pop(stream_name, None)
            self._unread.record(stream_name, has_field=True)
            self._replace(stream_name, limit.fps, Layered(None, limit))
        else:
            if limit.source is FpsSource.DEFAULT:
                self._default = limit.fps
            self.store_wildcard(None if limit.source is FpsSource.DEFAULT else raw)
            self.store((stream_name,), (None,))
        self._values.record_invalid(stream_name, invalid_value)
        if not was_read:
            self.unread.add(stream_name)

    def assume(self, stream_names: Iterable[str]) -> None:
        """Watches streams that couldn't be read: at their last known override, else by the patterns and the fallback."""
        for name in stream_names:
            if name not in self.watched:
                if name not in self._asleep:
                    self.unread.add(name)
                self._enter(name, self._asleep.pop(name, None))

    def put_to_sleep(self, stream_name: str) -> None:
        """Stops watching a silent stream; its last known override is kept, also if that is none."""
        own = self._own(stream_name)
        layered = self._layered.get(stream_name)
        if layered is not None and not self.layers.exist:
            own = (layered.limit.after_boost or layered.limit).fps  # nothing here could find it out again
        self.version += 1
        if stream_name not in self.unread:
            self._asleep[stream_name] = own
        self._drop(stream_name)

    def names(self) -> set[str]:
        """Returns all streams that are watched or asleep."""
        return {*self.watched, *self._asleep}

    def forget(self, stream_name: str) -> None:
        """Removes everything that is known about a stream."""
        self.version += 1
        self._asleep.pop(stream_name, None)
        self._since.pop(stream_name, None)
        self._drop(stream_name)

    def _drop(self, stream_name: str) -> None:
        self.watched.pop(stream_name, None)
        self._layered.pop(stream_name, None)
        self._boosted.pop(stream_name, None)
        self.layers.drop(stream_name)
        self._unread.forget(stream_name)
        self._values.forget(stream_name)

    def _own(self, stream_name: str) -> float | None:
        """Returns the last known valid value of a stream's own field, frames per second; None for none."""
        layered = self._layered.get(stream_name)
        if layered is not None:
            return layered.own
        own = self.watched.get(stream_name)
        return self._asleep.get(stream_name) if own is None else own

    def _state(self, stream_name: str) -> tuple[float | None, float | None, Layered | None]:
        """Returns a stream's fps in force (None: the fallback), its own field, and what a pattern or a boost makes of it."""
        if stream_name in self.watched:
            fps, layered = self.watched[stream_name], self._layered.get(stream_name)
            return fps, fps if layered is None else layered.own, layered
        own = self._asleep.get(stream_name)
        fps, layered = self.layers.resolve(stream_name, own, self.fallback, keep=False)
        return fps, own, layered

    def _enter(self, stream_name: str, own: float | None, *, is_pattern: bool = False) -> None:
        """Watches a stream whose own field is known, at the limit that follows from it, the patterns and the boosts."""
        fps, layered = own, None
        if self.layers.exist:
            fps, layered = self.layers.resolve(stream_name, own, self.fallback, keep=True)
        self._replace(stream_name, fps, layered, is_pattern=is_pattern)

    def _replace(
        self, stream_name: str, fps: float | None, layered: Layered | None, *, is_pattern: bool = False
    ) -> None:
        """Stores the limit of a watched stream, and reports what changed."""
        is_new = stream_name not in self.watched
        old, old_layered = self.watched.get(stream_name), self._layered.get(stream_name)
        self.watched[stream_name] = fps
        if layered is None:
            self._layered.pop(stream_name, None)
        else:
            self._layered[stream_name] = layered
        if layered is not None and layered.limit.source is FpsSource.BOOST:
            self._boosted[stream_name] = layered.limit.boost_until
            self.on_boost()
        else:
            self._boosted.pop(stream_name, None)
        if is_new:
            return
        if old != fps:
            self.version += 1
            self._record_change(stream_name, old, fps)
            self._notify(stream_name, old, is_pattern=is_pattern)
        elif layered != old_layered and self._on_difference is not None:
            self._on_difference(stream_name)

    def _record_waking(self, stream_name: str, last: float | None, own: float | None) -> None:
        """Records that a stream that was asleep is read again, with its field's value before and now."""
        if last != own:
            self._record_change(stream_name, last, own)  # it was asleep, so nobody was told of a limit
        if self._layers_since != NEVER_CHANGED:
            self._since[stream_name] = max(self._since.get(stream_name, NEVER_CHANGED), self._layers_since)

    def _record_change(self, stream_name: str, old: float | None, new: float | None) -> None:
        """Records when the override of a stream changed; None stands for no override."""
        old_fps, new_fps = (self.fallback.fps if fps is None else fps for fps in (old, new))
        if old_fps != new_fps:
            self._since[stream_name] = self._clock()
        elif old is None:
            self._since[stream_name] = max(self._since.get(stream_name, NEVER_CHANGED), self._fallback_since)

    def _notify(self, stream_name: str, old: float | None, *, is_pattern: bool) -> None:
        """Reports that the limit of a watched stream changed from this one; None stands for the fallback."""
        old_fps = self.fallback.fps if old is None else old
        limit = self.limit(stream_name)
        if self._watcher is not None:
            self._watcher.limit_changed(stream_name, old_fps, limit.fps)
        if self._on_change is not None and not is_pattern:
            self._on_change(stream_name, old_fps, limit)
        if self._on_difference is not None:
            self._on_difference(stream_name)
