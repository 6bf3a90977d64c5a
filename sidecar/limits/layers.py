"""What sets limits besides the streams' own fields and the wildcard: patterns and boosts. Pure.

Both are small and known whole. The pattern that matches a stream is sought once for each version of the patterns; the streams
that one pattern sets the limit for share one object.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from handcounter.pacing.limits import (
    MAX_BOOSTS,
    MAX_PATTERNS,
    Boost,
    FpsSource,
    Limit,
    lasting_limit,
    limit_in_force,
    parse_boost,
    parse_fps,
)
from handcounter.pacing.patterns import Patterns, pattern_error
from handcounter.pacing.schedule import stream_name_error
from sidecar.limits.small_table import SmallTable


class LimitInForce(NamedTuple):
    """A stream's limit, and what it comes from in detail."""

    fps: float
    """Frames per second; 0 pauses the stream, infinity lifts the limit."""
    source: FpsSource
    pattern: str = ""
    """The pattern that it comes from; empty if its source isn't PATTERN."""
    boost_until: float = 0.0
    """When the boost that it comes from ends, Unix seconds; 0 if its source isn't BOOST."""
    after_boost: "LimitInForce | None" = None
    """What is in force when the boost ends, if nothing else changes; None if the source isn't BOOST."""


class Layered(NamedTuple):
    """The limit of a stream that a pattern or a boost sets."""

    own: float | None
    """The stream's own field, frames per second; None for none."""
    limit: LimitInForce


class Layers:
    """The patterns and the boosts that were last read.

    Args:
        wall_clock: Unix seconds, by which boosts end.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.patterns: SmallTable[float] = SmallTable(parse_fps, pattern_error, MAX_PATTERNS)
        """Others read it."""
        self.boosts: SmallTable[Boost] = SmallTable(parse_boost, stream_name_error, MAX_BOOSTS)
        """Also those that have ended. Others read it."""
        self.exist = False
        """Whether there are any; boosts that have ended count too."""
        self.wall_clock = wall_clock
        self._matcher = Patterns({})
        self._invalid = Patterns({})
        self._changed = Patterns({})
        self._by_pattern: dict[str, Layered] = {}
        self._matches: dict[str, Layered | None] = {}
        """The pattern of each watched stream without a field; None for none."""

    def store_patterns(self, fields: Mapping[bytes, bytes]) -> set[str]:
        """Stores all patterns; returns those that differ from before."""
        changed = self.patterns.store(fields)
        if changed:
            values = self.patterns.values
            self._matcher, self._matches = Patterns(values), {}
            self._invalid = Patterns(dict.fromkeys(self.patterns.invalid, 0.0))
            self._changed = Patterns(dict.fromkeys(changed, 0.0))
            self._by_pattern = {
                pattern: Layered(None, LimitInForce(fps, FpsSource.PATTERN, pattern)) for pattern, fps in values.items()
            }
            self.exist = bool(values or self.boosts.values)
        return changed

    def store_boosts(self, fields: Mapping[bytes, bytes]) -> set[str]:
        """Stores all boosts; returns the streams whose boosts differ from before."""
        changed = self.boosts.store(fields)
        self.exist = bool(self.patterns.values or self.boosts.values)
        return changed

    def boosts_in_force(self) -> int:
        """Returns how many boosts haven't ended. Safe to call from any thread."""
        now = self.wall_clock()
        return sum(now < boost.until for boost in self.boosts.values.values())

    def changed(self, stream_name: str) -> bool:
        """Returns whether the last change of the patterns was about a stream, or may have been."""
        return self._changed.match(stream_name) is not None

    def drop(self, stream_name: str) -> None:
        """Forgets the pattern of a stream that isn't watched any more."""
        self._matches.pop(stream_name, None)

    def resolve(
        self, stream_name: str, own: float | None, otherwise: Limit, *, keep: bool
    ) -> tuple[float | None, Layered | None]:
        """Returns a stream's limit, frames per second (None: the fallback), and if a pattern or a boost sets it, how.

        Args:
            stream_name: the stream.
            own: its own field; None for none.
            otherwise: the fallback.
            keep: whether the pattern that matches the stream is to be remembered: until it is dropped.
        """
        by_pattern = None if own is not None else self._match(stream_name, keep=keep)
        boost = self.boosts.values.get(stream_name)
        if boost is not None:
            pattern = None if by_pattern is None else by_pattern.limit.fps
            limit = limit_in_force(own, pattern, otherwise, boost, self.wall_clock())
            if limit.source is FpsSource.BOOST:
                lasting = LimitInForce(*lasting_limit(own, pattern, otherwise))
                after = lasting if by_pattern is None else by_pattern.limit
                return boost.fps, Layered(own, LimitInForce(*limit, boost_until=boost.until, after_boost=after))
        return (own, None) if by_pattern is None else (by_pattern.limit.fps, by_pattern)

    def invalid_boost(self, stream_name: str) -> str:
        """Returns the value of a stream's boost that isn't valid, as shown to people; empty for none."""
        return self.boosts.invalid.get(stream_name, "")

    def invalid_pattern(self, stream_name: str, layered: Layered | None) -> str:
        """Returns the value that isn't valid of the pattern that would set a stream's limit; empty for none.

        Args:
            stream_name: a stream without a field of its own.
            layered: the pattern that sets its limit, or its boost; None for neither.
        """
        if not self.patterns.invalid:
            return ""
        match = self._invalid.match(stream_name)
        if match is None:
            return ""
        limit = None if layered is None else layered.limit.after_boost or layered.limit
        if limit is not None and limit.pattern:
            match = Patterns({limit.pattern: 0.0, match.pattern: 0.0}).match(stream_name)
        return "" if match is None else self.patterns.invalid.get(match.pattern, "")

    def _match(self, stream_name: str, *, keep: bool) -> Layered | None:
        if not self._by_pattern:
            return None
        try:
            return self._matches[stream_name]
        except KeyError:
            match = self._matcher.match(stream_name)
            layered = None if match is None else self._by_pattern[match.pattern]
            if keep:
                self._matches[stream_name] = layered
            return layered
