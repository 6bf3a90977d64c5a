"""Metrics by stream, for a bounded number of streams; the rest goes into one series, ``other``.

Nothing is counted here: at each scrape the streams' own counters are read, so a decision pays nothing, whatever the
number of streams. A stream keeps its series while it has a schedule, and after that until another stream needs the
place; a stream silent for ten minutes gives way too. What others were admitted is what all were, less what the series
of streams tell and told. So no series ever falls, and the rates of all series add up to the rate of all.

Scrapes come from threads of their own. What they read moves meanwhile, by a frame or so; ``other`` never shows it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from handcounter.pacing.schedule import Reason
from handcounter.pacing.times import RealTime
from sidecar.deciding.roster import Roster
from sidecar.deciding.stream import Stream
from sidecar.limits.table import FpsTable

OTHER: Final = "other"
"""The label of the rest; so a stream of this name has no series of its own."""

GIVES_WAY_AFTER_S: Final = 600.0


class _Series:
    """The series of one stream, over all the times that it was evicted and came back."""

    __slots__ = ("_before", "stream", "told")

    def __init__(self, stream: Stream, told_in_other: int) -> None:
        self.stream = stream
        self.told = 0
        """What the last scrape said."""
        self._before = -told_in_other

    def tell(self) -> int:
        self.told = self._before + self.stream.admitted
        return self.told

    def came_back(self, stream: Stream) -> None:
        self._before += self.stream.admitted
        self.stream = stream


class StreamMetrics(Collector):
    """Tells about streams at each scrape.

    Args:
        roster: the streams.
        table: the limits.
        max_streams: how many have series of their own.
        clock: real time, seconds by the clock of the decisions.
    """

    def __init__(
        self, roster: Roster, table: FpsTable, max_streams: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._roster = roster
        self._table = table
        self._max_streams = max_streams
        self._clock = clock
        self._series: dict[str, _Series] = {}
        self._ended = 0
        """What series told that are no more."""
        self._others = 0
        self._all_had_series = True
        """Whether there was no other stream at the last scrape, so that an unknown one began after it."""
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Tells about each stream that has series, and how many frames of the others were admitted."""
        admitted = CounterMetricFamily(
            "sidecar_stream_admitted", "Frames admitted, by stream; the rest in other.", labels=["stream_name"]
        )
        fps = GaugeMetricFamily(
            "sidecar_stream_fps", "Frames per second that a stream may have, by stream.", labels=["stream_name"]
        )
        achieved = GaugeMetricFamily(
            "sidecar_stream_achieved_fps", "Frames per second that a stream gets, by stream.", labels=["stream_name"]
        )
        with self._lock:
            self._choose()
            told = self._ended
            for name, series in self._series.items():
                count = series.tell()
                told += count
                admitted.add_metric([name], count)
                if self._roster.streams.get(name) is series.stream:
                    fps.add_metric([name], self._table.fps(name))
                    achieved.add_metric([name], series.stream.achieved_fps(RealTime(self._clock())))
            self._others = max(self._others, self._roster.decisions[Reason.ADMITTED] - told)
            admitted.add_metric([OTHER], self._others)
        yield from (admitted, fps, achieved)

    def _choose(self) -> None:
        """Decides which streams have series at this scrape."""
        streams = self._roster.snapshot()
        for name, series in self._series.items():
            now_there = self._roster.streams.get(name)
            if now_there is not None and now_there is not series.stream:
                series.came_back(now_there)
        without = [stream for stream in streams if stream.name not in self._series and stream.name != OTHER]
        chosen = without
        places = self._max_streams - len(self._series)
        if len(without) > places:
            silent_since = self._clock() - GIVES_WAY_AFTER_S
            chosen = [stream for stream in without if stream.heard_at > silent_since]
            places += self._make_room(len(chosen) - places, silent_since)
        for stream in chosen[:places]:
            self._series[stream.name] = _Series(stream, 0 if self._all_had_series else stream.admitted)
        self._all_had_series = all(stream.name in self._series or stream.name == OTHER for stream in streams)

    def _make_room(self, wanted: int, silent_since: float) -> int:
        """Ends series that have no stream any more, or a silent one; says how many."""
        ended = [
            name
            for name, series in self._series.items()
            if self._roster.streams.get(name) is None or series.stream.heard_at <= silent_since
        ][: max(0, wanted)]
        for name in ended:
            self._ended += self._series.pop(name).told
        return len(ended)
