"""Smooths the counts of a stream: cameras don't move, so a count that lasts for a single frame is likely wrong.

The smoothed count of a frame is the median of the stream's last counts, its own among them. It follows a real change after
about half as many frames. The state belongs to one process: workers that share a stream smooth separately, each over the
frames that it counts itself.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

WINDOW_S = 5.0
"""Counts older than this, by the frames' own clock, have no part: people move."""

MOST = 5
"""Counts that have a part, at most. With more of them, a real change would show later."""

LEAST = 3
"""With fewer counts there is no smoothed one: the median of two is either of them."""

MIN_FPS = 0.9
"""Below this many counts per second there is no smoothed one. A stream of 1 fps has some jitter."""

MOST_STREAMS = 10_000
"""Streams whose counts are kept; beyond, those that were counted least recently are forgotten."""


def smoothed(counts: Sequence[tuple[float, int]], ts: float) -> int | None:
    """Returns the smoothed count of the frame at `ts`; None if its stream's frames come too rarely.

    Args:
        counts: (ts, count) of the stream's frames, in the order of their ts; later ones than `ts` have no part.
        ts: of a frame among them.
    """
    known = [(at, count) for at, count in counts if ts - WINDOW_S <= at <= ts][-MOST:]
    known = known[1 - len(known) % 2 :]  # of an odd number of counts the median is one of them
    if len(known) < LEAST or (len(known) - 1) < MIN_FPS * (ts - known[0][0]):
        return None
    return sorted(count for _, count in known)[len(known) // 2]


class Smoother:
    """The last counts of each stream. Threads may share it."""

    def __init__(self, most_streams: int = MOST_STREAMS) -> None:
        """Knows no stream yet."""
        self._most_streams = most_streams
        self._streams: OrderedDict[str, list[tuple[float, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, stream_name: str, ts: float, count: int) -> int | None:
        """Takes the count of a frame; returns its smoothed count, None if the stream's frames come too rarely.

        Threads count the frames of a stream side by side, so that they may come out of order.
        """
        with self._lock:
            counts = self._streams.setdefault(stream_name, [])
            self._streams.move_to_end(stream_name)
            # A clock that went back has begun anew, and a frame that is counted again replaces its count.
            counts[:] = [(at, known) for at, known in counts if abs(at - ts) <= WINDOW_S and at != ts]
            counts.insert(bisect_right(counts, (ts, count)), (ts, count))
            del counts[: -2 * MOST]
            if len(self._streams) > self._most_streams:
                self._streams.popitem(last=False)
            return smoothed(counts, ts)
