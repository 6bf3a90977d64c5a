"""Per-stream metrics, for a bounded number of streams; all other streams share one series, ``other``.

Nothing is counted here: a scrape reads the streams' own counters, so decisions cost the same with any number of streams. A
stream keeps its series while it has a schedule, and then until another stream needs the place; a stream that was silent
for ten minutes makes room too. Admissions in ``other`` = all admissions - live series - ended series. So no series ever
decreases, and the rates of all series add up to the total rate.

Scrapes run in threads of their own, while frames are decided. So counters may be ahead of each other by a frame or so;
``other`` never decreases because of it.
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
"""The label of all other streams; a stream of this name is therefore one of them."""

MAKES_ROOM_AFTER_S: Final = 600.0
"""How long a stream is silent before another one may get its place."""


class _Series:
    """The series of one stream, which continues when the stream is evicted and returns.

    Args:
        stream: The stream.
        counted_in_other: Its admissions that are in the series ``other``.
    """

    __slots__ = ("_clock_offset", "_offset", "last_reported", "stream")

    def __init__(self, stream: Stream, counted_in_other: int) -> None:
        self.stream = stream
        self.last_reported = 0
        """The value of the last scrape."""
        self._offset = -counted_in_other
        self._clock_offset = 0

    def report(self) -> int:
        """Returns the value for a scrape: admissions."""
        self.last_reported = self._offset + self.stream.admitted
        return self.last_reported

    def clock_changes(self) -> int:
        """Returns how often the stream's clock restarted or jumped."""
        return self._clock_offset + self.stream.clock_restarts + self.stream.clock_jumps

    def returned(self, stream: Stream) -> None:
        """Continues with the new schedule of a stream that was evicted."""
        self._offset += self.stream.admitted
        self._clock_offset = self.clock_changes()
        self.stream = stream


class StreamMetrics(Collector):
    """The collector of per-stream metrics.

    Args:
        roster: Has the streams.
        table: Has their limits.
        max_streams: How many streams may have their own series.
        clock: Real time, seconds by the clock of the decisions.
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
        """Last values of ended series, added up."""
        self._other = 0
        self._all_had_series = True
        """Whether each stream had a series at the last scrape, so that all frames of an unknown one are newer."""
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics of each stream with its own series, and the admissions of all others."""
        admitted = CounterMetricFamily(
            "sidecar_stream_admitted",
            "Frames admitted, by stream; all other streams are in other.",
            labels=["stream_name"],
        )
        fps = GaugeMetricFamily("sidecar_stream_fps", "The fps in force, by stream.", labels=["stream_name"])
        achieved = GaugeMetricFamily(
            "sidecar_stream_achieved_fps", "Frames admitted per second, by stream.", labels=["stream_name"]
        )
        clocks = CounterMetricFamily(
            "sidecar_stream_clock_changes",
            "Restarts and jumps of the stream's clock, by stream.",
            labels=["stream_name"],
        )
        with self._lock:
            self._choose()
            reported = self._ended
            for name, series in self._series.items():
                count = series.report()
                reported += count
                admitted.add_metric([name], count)
                clocks.add_metric([name], series.clock_changes())
                if self._roster.streams.get(name) is series.stream:
                    fps.add_metric([name], self._table.fps(name))
                    now = RealTime(self._clock())
                    achieved.add_metric([name], self._roster.achieved_fps(series.stream, now))
            self._other = max(self._other, self._roster.decisions[Reason.ADMITTED] - reported)
            admitted.add_metric([OTHER], self._other)
        yield from (admitted, fps, achieved, clocks)

    def _choose(self) -> None:
        """Chooses the streams that have their own series at this scrape."""
        streams = self._roster.snapshot()
        for name, series in self._series.items():
            current = self._roster.streams.get(name)
            if current is not None and current is not series.stream:
                series.returned(current)
        without = [stream for stream in streams if stream.name not in self._series and stream.name != OTHER]
        chosen = without
        places = self._max_streams - len(self._series)
        if len(without) > places:
            silent_since = self._clock() - MAKES_ROOM_AFTER_S
            chosen = [stream for stream in without if stream.heard_at > silent_since]
            places += self._make_room(len(chosen) - places, silent_since)
        for stream in chosen[:places]:
            self._series[stream.name] = _Series(stream, 0 if self._all_had_series else stream.admitted)
        self._all_had_series = all(stream.name in self._series or stream.name == OTHER for stream in streams)

    def _make_room(self, wanted: int, silent_since: float) -> int:
        """Ends series of streams that were evicted or are silent, at most ``wanted``; returns how many."""
        ended = [
            name
            for name, series in self._series.items()
            if self._roster.streams.get(name) is None or series.stream.heard_at <= silent_since
        ][: max(0, wanted)]
        for name in ended:
            self._ended += self._series.pop(name).last_reported
        return len(ended)
