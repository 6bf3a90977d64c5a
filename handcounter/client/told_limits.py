"""What a client of ``WatchLimits`` tells and is told: the streams that it watches, and their limits. Pure."""

import enum
import itertools
from collections.abc import Mapping
from typing import Final, NamedTuple

from handcounter.pacing.bounds import MAX_BATCH


class FpsSource(enum.IntEnum):
    """Where a limit comes from; the numbers are those of the contract."""

    UNKNOWN = 0
    """A source that this client doesn't know, of a newer sidecar."""
    OVERRIDE = 1
    """The stream's own field in Redis."""
    WILDCARD = 2
    """The field ``*`` in Redis."""
    DEFAULT = 3
    """The sidecar's ``--fps``."""
    PATTERN = 4
    """The pattern in Redis that matches the stream's name best."""
    BOOST = 5
    """The stream's temporary limit in Redis."""


class StreamLimit(NamedTuple):
    """The last known limit of one stream."""

    fps: float
    """Frames per second; 0 pauses the stream, infinity lifts the limit."""
    source: FpsSource
    invalid_value: str
    """The value in Redis that is ignored because it isn't a valid fps; empty: there is none."""
    unread: bool = False
    """Whether the sidecar couldn't read the stream's own limit yet, so that this is an assumption: it may be paused."""
    pattern: str = ""
    """The pattern that the limit comes from; empty: it comes from elsewhere."""
    boost_until: float = 0.0
    """When the boost ends that the limit comes from, Unix seconds; 0: it comes from elsewhere."""
    after_boost: "StreamLimit | None" = None
    """What is in force when the boost ends, if nothing else changes; None without a boost."""

    def at(self, now: float) -> "StreamLimit":
        """Returns the limit at a time, Unix seconds, which a boost that has ended by then doesn't set any more."""
        return self if self.after_boost is None or now < self.boost_until else self.after_boost


class Changes(NamedTuple):
    """A request: what changes in the set of watched streams."""

    source_fps: Mapping[str, float]
    """The streams to watch, each with the rate of its source, frames per second; 0 if that isn't known."""
    dropped: list[str]
    """The streams to watch no longer."""


_MOST: Final = MAX_BATCH


class WatchedStreams:
    """The streams that a client watches, and what of them its call hasn't told the sidecar yet. Not thread-safe."""

    def __init__(self) -> None:
        self.source_fps: dict[str, float] = {}
        """The streams, each with the rate of its source; others read it."""
        self._added: dict[str, None] = {}
        self._dropped: dict[str, None] = {}
        self._greeted = False

    def watch(self, stream_name: str, source_fps: float) -> bool:
        """Watches a stream, or replaces the rate of its source. Returns whether there is something to tell."""
        if self.source_fps.get(stream_name) == source_fps:
            return False
        self.source_fps[stream_name] = source_fps
        self._added[stream_name] = None
        return True

    def unwatch(self, stream_name: str) -> bool:
        """Watches a stream no longer. Returns whether there is something to tell."""
        if self.source_fps.pop(stream_name, None) is None:
            return False
        self._added.pop(stream_name, None)
        self._dropped[stream_name] = None
        return True

    def begin_call(self) -> None:
        """Begins anew: a new call knows nothing of what an earlier one was told."""
        self._added = dict.fromkeys(self.source_fps)
        self._dropped.clear()
        self._greeted = False

    def take(self) -> Changes | None:
        """Returns the next request of the call; None while there is nothing to tell. The first one may be empty."""
        if self._greeted and not (self._added or self._dropped):
            return None
        self._greeted = True
        dropped = list(itertools.islice(self._dropped, _MOST))
        for name in dropped:
            del self._dropped[name]
        if self._dropped:  # a stream that is dropped later must not be added before
            return Changes({}, dropped)
        added = list(itertools.islice(self._added, _MOST))
        for name in added:
            del self._added[name]
        return Changes({name: self.source_fps[name] for name in added}, dropped)
