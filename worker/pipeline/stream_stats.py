"""What a worker knows about each stream, for its metrics and for the hashes in Redis. For all threads.

The number of streams is bounded. Frames of all others are counted together, as the stream ``other``, without rates.
"""

import itertools
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter

from worker.pipeline.rate_window import RateWindow
from worker.queue.delivery import Counted, Dead, Skipped
from worker.queue.frame import Frame, SkipReason
from worker.queue.stream_update import StreamUpdate

OTHER = "other"
"""The name of all streams beyond the bound; a stream of this name is therefore one of them."""

MAKES_ROOM_AFTER_S = 600.0
"""How long a stream is silent before another one may get its place."""

UPDATE_S = 1.0
"""How often the hash of a stream is written if none of its frames is counted."""

LOOK_S = 0.25
"""Between two looks at all streams: results may come much more often."""

ROOM_S = 10.0
"""Between two searches for streams that make room: with many more streams than may be known, each frame would search all."""

MOST_UPDATES = 500
"""Streams written at once, besides those with results, so that no script blocks Redis for long."""

_NAME_AND_REASON = itemgetter(2, 1)
"""Of a Skipped; a tuple's items are counted without a step of Python for each."""


class StreamStat:
    """One stream, as this worker sees it."""

    __slots__ = (
        "admitted",
        "age",
        "changed",
        "counted",
        "counted_window",
        "dead",
        "hands",
        "heard_at",
        "last_skip",
        "name",
        "received",
        "sent",
        "sent_skips",
        "shared_counted",
        "shared_source",
        "skipped",
        "source_window",
        "told_silence",
        "updated_at",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.received = 0
        self.admitted = 0
        self.counted = 0
        self.dead = 0
        self.skipped: Counter[str] = Counter()
        """By reason."""
        self.hands = 0
        """In the last result."""
        self.age = 0.0
        """Of the last counted frame when counting began, seconds."""
        self.heard_at = 0.0
        """When Redis received the newest frame, Unix seconds by its clock."""
        self.last_skip = ""
        self.source_window = RateWindow()
        self.counted_window = RateWindow()
        self.shared_source = RateWindow()
        """Of the frames that all workers received."""
        self.shared_counted = RateWindow()
        self.changed = False
        """Whether there is something that the hash doesn't contain yet."""
        self.sent = self.numbers()
        """What the hash contains of this worker's numbers, by its fields."""
        self.sent_skips: Counter[str] = Counter()
        """What it contains of this worker's skipped frames, by reason."""
        self.updated_at = 0.0
        self.told_silence = True

    def numbers(self) -> dict[str, int]:
        """Returns the frames so far, by the fields of the hash."""
        return {
            "received": self.received,
            "admitted": self.admitted,
            "skipped": sum(self.skipped.values()),
            "superseded": self.skipped[SkipReason.SUPERSEDED],
            "dead": self.dead,
        }

    def silent(self, now: float) -> bool:
        """Returns whether no frame has come for a while."""
        return self.source_window.silent(now)

    def source_fps(self, now: float) -> float:
        """Returns the frames per second that this worker received."""
        return 0.0 if self.silent(now) else self.source_window.fps(now)

    def counted_fps(self, now: float) -> float:
        """Returns the frames per second that this worker counted."""
        return 0.0 if self.silent(now) else self.counted_window.fps(now)


class StreamStats:
    """All streams of one worker."""

    def __init__(self, max_streams: int, now: Callable[[], float]) -> None:
        """Takes the bound on streams, and Redis' clock in Unix seconds."""
        self._max_streams = max_streams
        self._now = now
        self._streams: dict[str, StreamStat] = {}
        """Those that were written longest ago without a result come first."""
        self._other = StreamStat(OTHER)
        self._looked_at = 0.0
        self._searched_at = -math.inf
        self._lock = threading.Lock()

    def received(self, frames: Sequence[Frame]) -> None:
        """Notes new valid frames, in the order of their arrival."""
        if not frames:
            return
        numbers = Counter([frame.stream_name for frame in frames])
        arrived = {frame.stream_name: frame.arrived_at for frame in frames}
        with self._lock:
            for name, number in numbers.items():
                stream = self._streams.get(name) or self._stream(name)
                stream.received += number
                at = arrived[name]
                if at > stream.heard_at:
                    stream.heard_at = at
                stream.source_window.note(at, stream.received)
                stream.changed = True
                stream.told_silence = False

    def admitted(self, frames: Iterable[Frame]) -> None:
        """Notes the new frames that the limiter admitted."""
        numbers = Counter([frame.stream_name for frame in frames])
        with self._lock:
            for name, number in numbers.items():
                stream = self._stream(name)
                stream.admitted += number
                stream.changed = True

    def skipped(self, skips: Iterable[Skipped]) -> None:
        """Notes what was settled as skipped."""
        numbers = Counter(map(_NAME_AND_REASON, skips))
        with self._lock:
            for (name, reason), number in numbers.items():
                stream = self._streams.get(name) or self._stream(name)
                stream.skipped[reason] += number
                stream.last_skip = reason
                stream.changed = True

    def settled(self, deliveries: Iterable[Counted | Dead]) -> None:
        """Notes what was settled by this worker as counted or dead."""
        with self._lock:
            for each in deliveries:
                if isinstance(each, Dead):
                    stream = self._stream(dict(each.fields).get(b"stream_name", b"").decode(errors="replace"))
                    stream.dead += 1
                    stream.changed = True
                else:
                    stream = self._stream(each.stream_name)
                    stream.counted += 1
                    stream.hands, stream.age = each.hand_count, each.age
                    stream.counted_window.note(self._now(), stream.counted)

    def updates(self, results: Iterable[Counted]) -> list[StreamUpdate]:
        """Returns what to write about streams: about those of the results, and about others that have changed.

        What is returned counts as written, unless it is given to :meth:`not_written`.
        """
        updates: dict[str, StreamUpdate] = {}
        now = self._now()
        with self._lock:
            for result in results:
                stream = self._stream(result.stream_name)
                if stream is not self._other:
                    stream.heard_at = stream.heard_at or now - result.age  # it was received before a restart
                    update = updates.get(stream.name) or updates.setdefault(stream.name, self._update(stream, now))
                    update.counted += 1
                    update.fields |= result.shown()
                    update.fields["counted_at"] = round(now, 3)
                    update.preview = result.preview or update.preview
            if not 0.0 <= now - self._looked_at < LOOK_S:  # the clock may be set back
                self._looked_at = now
                due = (each for each in self._streams.values() if each.name not in updates and self._is_due(each, now))
                for stream in list(itertools.islice(due, MOST_UPDATES)):
                    updates[stream.name] = self._update(stream, now)
                    self._streams[stream.name] = self._streams.pop(stream.name)
        return list(updates.values())

    def not_written(self, updates: Iterable[StreamUpdate]) -> None:
        """Takes back updates, so that they are part of the next ones."""
        with self._lock:
            for update in updates:
                stream = self._streams.get(update.stream_name)
                if stream is not None:
                    stream.told_silence, stream.changed = False, True
                    for name in stream.sent:
                        stream.sent[name] -= getattr(update, name)
                    stream.sent_skips.subtract(update.skips)

    def written(self, updates: Iterable[StreamUpdate]) -> None:
        """Notes the totals of all workers, which came with the reply."""
        now = self._now()
        with self._lock:
            for update in updates:
                stream = self._streams.get(update.stream_name)
                if stream is not None and update.totals is not None:
                    stream.shared_source.note(update.heard_at, update.totals[0])
                    stream.shared_counted.note(now, update.totals[1])

    def snapshot(self) -> list[StreamStat]:
        """Returns all streams, with their own names or as ``other``. Only for reading."""
        with self._lock:
            return [*self._streams.values(), self._other]

    def _is_due(self, stream: StreamStat, now: float) -> bool:
        if stream.changed:
            return now - stream.updated_at >= UPDATE_S
        return not stream.told_silence and stream.silent(now)

    def _update(self, stream: StreamStat, now: float) -> StreamUpdate:
        numbers, sent, silent = stream.numbers(), stream.sent, stream.silent(now)
        update = StreamUpdate(
            stream.name,
            stream.heard_at,
            silent=silent and not stream.changed,
            received=numbers["received"] - sent["received"],
            admitted=numbers["admitted"] - sent["admitted"],
            skipped=numbers["skipped"] - sent["skipped"],
            superseded=numbers["superseded"] - sent["superseded"],
            dead=numbers["dead"] - sent["dead"],
        )
        if update.skipped:
            update.skips = dict(stream.skipped - stream.sent_skips)
            stream.sent_skips = stream.skipped.copy()
        update.fields = {
            "stream_name": stream.name,
            "source_fps": 0 if silent else round(stream.shared_source.fps(), 3),
            "counted_fps": 0 if silent else round(stream.shared_counted.fps(now), 3),
        }
        if stream.last_skip:
            update.fields["last_skip"] = stream.last_skip
        stream.sent = numbers
        stream.changed = False
        stream.updated_at = now
        stream.told_silence = silent
        return update

    def _stream(self, name: str) -> StreamStat:
        stream = self._streams.get(name)
        if stream is None:
            if not name or name == OTHER or (len(self._streams) >= self._max_streams and not self._make_room()):
                return self._other
            stream = self._streams[name] = StreamStat(name)
        return stream

    def _make_room(self) -> bool:
        """Forgets the streams that were silent for long; returns whether there were any."""
        now = self._now()
        if 0.0 <= now - self._searched_at < ROOM_S:  # the clock may be set back
            return False
        self._searched_at = now
        silent_since = now - MAKES_ROOM_AFTER_S
        silent = [name for name, stream in self._streams.items() if stream.heard_at < silent_since]
        for name in silent:
            del self._streams[name]
        return bool(silent)
