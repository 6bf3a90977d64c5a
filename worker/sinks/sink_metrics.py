"""Metrics of the sinks, read from their feeds at each scrape."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.sinks.feeds import Feeds

_LABEL = ["sink"]


class SinkMetrics(Collector):
    """The collector."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics of all sinks besides Redis."""
        written = CounterMetricFamily("hand_counter_sink_written", "Results written to a sink.", labels=_LABEL)
        dropped = CounterMetricFamily(
            "hand_counter_sink_dropped",
            "Results that a sink didn't get: its buffer was full, it rejected them, or the worker stopped.",
            labels=_LABEL,
        )
        up = GaugeMetricFamily("hand_counter_sink_up", "0 while results can't be written to a sink.", labels=_LABEL)
        for feed in self._feeds.feeds:
            written.add_metric([feed.name], feed.counts.written)
            dropped.add_metric([feed.name], feed.counts.dropped)
            up.add_metric([feed.name], 0 if feed.counts.problem else 1)
        yield from (written, dropped, up)
