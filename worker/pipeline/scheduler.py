"""Whose frame is counted next: a place for each stream, and turns by weighted fair queueing. Pure.

A live frame waits in its stream's place. A newer frame of the stream takes the place and supersedes it, so what is counted is
fresh however large the load is. Frames of films are never superseded: they wait in a row, and live streams go first.

Turns are start-time fair queueing (Goyal, Vin, Cheng, 1996) with frames of equal size. Each stream has a virtual time at which
its next frame is due. A turn goes to the stream that is due first, and moves its time on by 1 / weight. The queue's virtual
time is that of the last turn. A stream that gets a frame into its empty place is due at its own time, or at the queue's if
that is later; so streams save no turns up while they have nothing to count, and nothing has to be configured or estimated.

- Overload is shared in proportion to the weights: for two streams that both wait all the time, the numbers of turns
  divided by the weights differ by at most one turn of each.
- A frame of a stream that hasn't used its share waits for at most one frame of each other stream.
- Time stands still while nothing waits. A stream is forgotten as soon as having it forgotten makes no difference, and in any
  case if it had no turn between two moments at which nothing waited. (Not at the first: with frames that come in the
  same order again and again, ties after each such moment would be to the advantage of the same streams.)
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

LEAST_UNLIMITED: Final = 30.0
"""The weight of a stream without a limit, frames per second, unless another stream has a higher one: a usual camera."""

_LEAST_WEIGHT: Final = 1e-6
"""A frame in eleven days."""

F = TypeVar("F")


class _Stream(Generic[F]):
    __slots__ = ("due", "fps", "period", "waiting")

    def __init__(self, due: float, period: int) -> None:
        self.due = due
        """Virtual time of its next turn."""
        self.fps = math.inf
        self.period = period
        """In which it had its last turn."""
        self.waiting: deque[F] = deque()


class _Turns(Generic[F]):
    """The turns of streams of one kind.

    Args:
        is_newer: whether a frame supersedes another one; None: frames of a stream don't supersede each other.
    """

    def __init__(self, is_newer: Callable[[F, F], bool] | None) -> None:
        self._is_newer = is_newer
        self._streams: dict[str, _Stream[F]] = {}
        self._now = 0.0
        """Virtual time."""
        self._period = 0
        """How often nothing waited any more."""
        self._arrivals = 0
        self._due: list[tuple[float, int, str]] = []
        """A heap of the streams that wait: virtual time of the turn, order of arrival, name."""
        self._idle: list[tuple[float, str]] = []
        """A heap of the streams that don't: when they may be forgotten, name. May have streams that wait again."""
        self._limits: Counter[float] = Counter()
        """The finite limits in use, and how many streams have each."""
        self.waiting = 0

    @property
    def remembered(self) -> int:
        return len(self._streams)

    def put(self, stream_name: str, fps: float, frame: F) -> F | None:
        stream = self._streams.get(stream_name)
        if stream is None:
            stream = self._streams[stream_name] = _Stream(self._now, self._period)
        if fps != stream.fps:
            self._change_limit(stream, fps)
        if not stream.waiting:
            stream.due = max(stream.due, self._now)
            self._line_up(stream_name, stream)
        elif self._is_newer:
            if not self._is_newer(frame, stream.waiting[0]):
                return frame
            superseded = stream.waiting[0]
            stream.waiting[0] = frame
            return superseded
        stream.waiting.append(frame)
        self.waiting += 1
        return None

    def take(self, worthless: Callable[[F], bool], dropped: list[F]) -> F | None:
        while self._due:
            due, _, name = self._due[0]
            stream = self._streams[name]
            frame = stream.waiting.popleft()
            self.waiting -= 1
            lost = worthless(frame)
            if lost:
                dropped.append(frame)  # costs the stream nothing, so it is still due
            else:
                self._now = due
                stream.due = due + 1.0 / self._weight(stream)
                stream.period = self._period
            heapq.heappop(self._due)
            if stream.waiting:
                self._line_up(name, stream)
            else:
                heapq.heappush(self._idle, (stream.due, name))
            self._forget()
            if not lost:
                return frame
        return None

    def recall(self, stream_name: str) -> list[F]:
        stream = self._streams.get(stream_name)
        if stream is None or not stream.waiting:
            return []
        recalled = list(stream.waiting)
        stream.waiting.clear()
        self.waiting -= len(recalled)
        self._due = [each for each in self._due if each[2] != stream_name]
        heapq.heapify(self._due)
        heapq.heappush(self._idle, (stream.due, stream_name))
        self._forget()
        return recalled

    def waiting_streams(self) -> list[str]:
        return [name for _, _, name in self._due]

    def next_of(self, stream_name: str) -> F | None:
        stream = self._streams.get(stream_name)
        return stream.waiting[0] if stream and stream.waiting else None

    def _line_up(self, name: str, stream: _Stream[F]) -> None:
        self._arrivals += 1
        heapq.heappush(self._due, (stream.due, self._arrivals, name))

    def _weight(self, stream: _Stream[F]) -> float:
        """Returns the limit; for a stream without one, or one that isn't in force, the greatest limit in use."""
        if 0.0 < stream.fps < math.inf:
            return max(stream.fps, _LEAST_WEIGHT)
        return max(LEAST_UNLIMITED, max(self._limits, default=0.0))

    def _change_limit(self, stream: _Stream[F], fps: float) -> None:
        for limit, number in ((stream.fps, -1), (fps, 1)):
            if math.isfinite(limit):
                self._limits[limit] += number
                if not self._limits[limit]:
                    del self._limits[limit]
        stream.fps = fps

    def _forget(self) -> None:
        while self._idle and self._idle[0][0] <= self._now:
            _, name = heapq.heappop(self._idle)
            stream = self._streams.get(name)
            if stream and not stream.waiting and stream.due <= self._now:
                self._change_limit(stream, math.inf)
                del self._streams[name]
        if not self._due:
            for name in [name for name, stream in self._streams.items() if stream.period < self._period]:
                self._change_limit(self._streams.pop(name), math.inf)
            self._idle = [(stream.due, name) for name, stream in self._streams.items()]
            heapq.heapify(self._idle)
            self._period += 1


class Scheduler(Generic[F]):
    """The frames that wait to be counted. Not thread-safe.

    Args:
        is_newer: whether the first of two frames of a stream is the newer one. Frames that are delivered again come late.
    """

    def __init__(self, is_newer: Callable[[F, F], bool] = lambda _new, _old: True) -> None:
        self._live: _Turns[F] = _Turns(is_newer)
        self._films: _Turns[F] = _Turns(None)

    def __len__(self) -> int:
        """Returns how many frames wait."""
        return self._live.waiting + self._films.waiting

    @property
    def remembered(self) -> int:
        """How many streams are remembered: those that wait, and those that have used more than their share."""
        return self._live.remembered + self._films.remembered

    def put(self, stream_name: str, fps: float, frame: F, *, live: bool) -> F | None:
        """Adds an admitted frame.

        Args:
            stream_name: its stream.
            fps: the limit in force, frames per second: the stream's weight. A stream without a limit (infinity) has the
                highest finite one in use, at least LEAST_UNLIMITED; so has one of 0, which only shadow mode admits.
            frame: the frame.
            live: whether it may be superseded.

        Returns:
            The frame that is superseded: usually the one that waited, or this one if that is newer; None: no frame is.
        """
        return (self._live if live else self._films).put(stream_name, fps, frame)

    def recall(self, stream_name: str) -> list[F]:
        """Removes all frames of a stream; returns them. It takes no turn."""
        return self._live.recall(stream_name) + self._films.recall(stream_name)

    def waiting_live(self, stream_name: str) -> F | None:
        """Returns the frame in a live stream's place; None if it is empty."""
        return self._live.next_of(stream_name)

    def waiting_streams(self) -> list[str]:
        """Returns the streams of which frames wait."""
        return list({*self._live.waiting_streams(), *self._films.waiting_streams()})

    def take(self, worthless: Callable[[F], bool], dropped: list[F]) -> F | None:
        """Returns the frame whose turn it is; None if there is none.

        Args:
            worthless: whether a frame has become too old. Such frames take no turn.
            dropped: such frames are added here, and don't wait any more.
        """
        frame = self._live.take(worthless, dropped)
        return self._films.take(worthless, dropped) if frame is None else frame
