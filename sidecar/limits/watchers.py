"""Who watches the limits of which streams, and which limits each of them has yet to be told. Pure.

A *watcher* is a client with an open ``WatchLimits`` call. It is told the limit of each stream when it begins to watch it, and
again after each change. Until then the stream is *pending*. Only names are kept: the limit is looked up when a message is made,
so that changes that come faster than a watcher reads are told as one, with the newest limit, and a stream of a watcher that
doesn't read is pending at most once.

A change of the fallback concerns all streams without an override. It is noted in one flag for each watcher, and spread
over the watcher's streams only when its next message is made, so that one change doesn't hold up decisions for as long as
it takes to go through the streams of all watchers.

A stream that somebody watches stays watched in the fps table, whether or not frames of it arrive.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from handcounter.pacing.limits import WILDCARD_FIELD


class Watcher:
    """One client: the streams that it watches, and which of them are pending.

    Args:
        on_pending: Is called whenever there is something to tell it.
    """

    def __init__(self, on_pending: Callable[[], None]) -> None:
        self.source_fps: dict[str, float] = {}
        """The streams that it watches, each with the rate of its source as it told; 0 if it didn't."""
        self._on_pending = on_pending
        self._pending: dict[str, None] = {}
        self._unread: set[str] = set()
        self._fallback_pending = False
        self._message_pending = False

    def begin(self, stream_name: str, source_fps: float) -> bool:
        """Begins to watch a stream, or replaces the rate of its source. Returns whether the stream is new to it."""
        is_new = stream_name not in self.source_fps
        if is_new:
            self._unread.add(stream_name)
        self.source_fps[stream_name] = source_fps
        return is_new

    def end(self, stream_name: str) -> bool:
        """Ends the watch of a stream, about which nothing is told any more. Returns whether it was watched."""
        self._pending.pop(stream_name, None)
        self._unread.discard(stream_name)
        return self.source_fps.pop(stream_name, None) is not None

    def mark_new(self, stream_names: Iterable[str]) -> None:
        """Marks new streams as pending, whose limits have been read now, and asks for at least an empty message."""
        for name in stream_names:
            if name in self._unread:
                self._unread.discard(name)
                self._pending[name] = None
        self.mark_message()

    def mark_changed(self, stream_name: str) -> None:
        """Marks a stream that it watches as pending, unless its limit is still being read for it."""
        if stream_name not in self._unread:
            self._pending[stream_name] = None
            self._on_pending()

    def mark_fallback(self) -> None:
        """Marks all streams without an override as pending."""
        self._fallback_pending = True
        self._on_pending()

    def mark_message(self) -> None:
        """Asks for a message, since what applies to all streams is different."""
        self._message_pending = True
        self._on_pending()

    def take(self, most: int, overrides: Mapping[str, float | None]) -> list[str] | None:
        """Returns the streams that the next message has to tell of, longest pending first; None for no message.

        Args:
            most: how many streams a message may have.
            overrides: the override of each stream; streams without one are affected by a change of the fallback.
        """
        if self._fallback_pending:
            self._fallback_pending = False
            unread = self._unread
            affected = (name for name in self.source_fps if overrides.get(name) is None and name not in unread)
            self._pending.update(dict.fromkeys(affected))
        if not (self._pending or self._message_pending):
            return None
        names = list(itertools.islice(self._pending, most))
        for name in names:
            del self._pending[name]
        self._message_pending = False
        return names


class Watchers:
    """All watchers. Its ``record`` is the ``on_difference`` of the fps table."""

    def __init__(self) -> None:
        self.on_source_fps: Callable[[str], None] = lambda _stream_name: None
        """Is called with each stream whose source has another rate; set by the one that passes it on."""
        self.watches = 0
        """The streams of all watchers, added up."""
        self._watchers: dict[Watcher, None] = {}
        self._by_stream: dict[str, dict[Watcher, None]] = {}

    def __len__(self) -> int:
        """Returns how many watchers there are."""
        return len(self._watchers)

    def __contains__(self, stream_name: object) -> bool:
        """Returns whether anybody watches a stream."""
        return stream_name in self._by_stream

    @property
    def streams(self) -> int:
        """How many streams are watched by anybody."""
        return len(self._by_stream)

    def open(self, on_pending: Callable[[], None]) -> Watcher:
        """Returns a new watcher, which watches nothing yet."""
        watcher = Watcher(on_pending)
        self._watchers[watcher] = None
        return watcher

    def close(self, watcher: Watcher) -> None:
        """Ends all that a watcher watches. Closing it again changes nothing."""
        self._watchers.pop(watcher, None)
        self.unwatch(watcher, list(watcher.source_fps))

    def watch(self, watcher: Watcher, stream_names: Sequence[str], source_fps: Sequence[float]) -> list[str]:
        """Makes a watcher watch streams, and notes the rates of their sources.

        Args:
            watcher: the watcher; it must be open.
            stream_names: the streams.
            source_fps: the rate of each one's source, frames per second; 0 if it isn't known.

        Returns:
            The streams that it didn't watch before. They aren't pending yet, because their limits may have to be read first.
        """
        new = []
        for name, rate in zip(stream_names, source_fps, strict=True):
            before = self.source_fps(name)
            if watcher.begin(name, rate):
                new.append(name)
                self._by_stream.setdefault(name, {})[watcher] = None
            if before != self.source_fps(name):
                self.on_source_fps(name)
        self.watches += len(new)
        return new

    def unwatch(self, watcher: Watcher, stream_names: Collection[str]) -> None:
        """Ends a watcher's watch of streams; those that it doesn't watch are ignored."""
        for name in stream_names:
            before = self.source_fps(name)
            if not watcher.end(name):
                continue
            self.watches -= 1
            others = self._by_stream[name]
            del others[watcher]
            if not others:
                del self._by_stream[name]
            if before != self.source_fps(name):
                self.on_source_fps(name)

    def source_fps(self, stream_name: str) -> float:
        """Returns the rate of a stream's source, frames per second; 0 if nobody tells it. Safe to call from any thread."""
        watchers = self._by_stream.get(stream_name)
        if watchers is None:
            return 0.0
        return max((watcher.source_fps.get(stream_name, 0.0) for watcher in list(watchers)), default=0.0)

    def record(self, field: str) -> None:
        """Records that what is told about a stream changed; with the wildcard, about all streams without an override."""
        for watcher in self._by_stream.get(field, ()):
            watcher.mark_changed(field)
        if field == WILDCARD_FIELD:
            for watcher in self._watchers:
                watcher.mark_fallback()

    def record_for_all(self) -> None:
        """Records that something changed that applies to all streams: whether the limits are stale."""
        for watcher in self._watchers:
            watcher.mark_message()
