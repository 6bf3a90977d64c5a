"""Per-stream metrics of a worker. Nothing is counted here: a scrape reads what :mod:`worker.pipeline.stream_stats` knows."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.pipeline.stream_stats import OTHER, StreamStats

_LABEL = ["stream_name"]


class StreamMetrics(Collector):
    """The collector; streams beyond the bound are one series, ``other``, without rates."""

    def __init__(self, streams: StreamStats, now: Callable[[], float]) -> None:
        """Takes the streams, and the clock by which their frames arrive, Unix seconds."""
        self._streams = streams
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics of all streams."""
        received = CounterMetricFamily("hand_counter_stream_received", "Frames read, by stream.", labels=_LABEL)
        admitted = CounterMetricFamily("hand_counter_stream_admitted", "Frames admitted, by stream.", labels=_LABEL)
        counted = CounterMetricFamily("hand_counter_stream_counted", "Frames counted, by stream.", labels=_LABEL)
        dead = CounterMetricFamily("hand_counter_stream_dead", "Entries dead-lettered, by stream.", labels=_LABEL)
        skipped = CounterMetricFamily(
            "hand_counter_stream_skipped", "Frames skipped, by stream and reason.", labels=[*_LABEL, "reason"]
        )
        source_fps = GaugeMetricFamily(
            "hand_counter_stream_source_fps",
            "Frames per second that this worker reads; 0 if the stream is silent.",
            labels=_LABEL,
        )
        counted_fps = GaugeMetricFamily(
            "hand_counter_stream_counted_fps",
            "Frames per second that this worker counts; 0 if the stream is silent.",
            labels=_LABEL,
        )
        hands = GaugeMetricFamily(
            "hand_counter_stream_hands", "Hands in the last result; 0 if the stream is silent.", labels=_LABEL
        )
        age = GaugeMetricFamily(
            "hand_counter_stream_age_seconds",
            "Age of the last counted frame when counting began; 0 if the stream is silent.",
            labels=_LABEL,
        )
        now = self._now()
        for stream in self._streams.snapshot():
            name = [stream.name]
            received.add_metric(name, stream.received)
            admitted.add_metric(name, stream.admitted)
            counted.add_metric(name, stream.counted)
            dead.add_metric(name, stream.dead)
            for reason, number in stream.skipped.copy().items():
                skipped.add_metric([*name, reason], number)
            if stream.name != OTHER:
                silent = stream.silent(now)
                source_fps.add_metric(name, stream.source_fps(now))
                counted_fps.add_metric(name, stream.counted_fps(now))
                hands.add_metric(name, 0 if silent else stream.hands)
                age.add_metric(name, 0.0 if silent else stream.age)
        yield from (received, admitted, counted, dead, skipped, source_fps, counted_fps, hands, age)
