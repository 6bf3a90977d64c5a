"""The metrics of a running worker, which its parts register where it is built."""

import time

from prometheus_client import CollectorRegistry

from worker.metrics import Metrics
from worker.pipeline.stream_metrics import StreamMetrics
from worker.pipeline.stream_stats import StreamStats
from worker.queue.delivery import Skipped
from worker.queue.frame import Frame, SkipReason
from worker.sinks.feed import Feed
from worker.sinks.feeds import Feeds
from worker.sinks.jsonl import JsonlOutput
from worker.sinks.sink_metrics import SinkMetrics


def worker_registry(metrics: Metrics | None = None) -> CollectorRegistry:
    """All of them, with a stream and a sink."""
    registry, streams = (metrics or Metrics()).registry, StreamStats(1, time.time)
    streams.received([Frame("1-1", "cam", 1.0, None, b"jpeg", 1.0)])
    streams.skipped([Skipped("1-1", SkipReason.LATE, "cam")])
    registry.register(StreamMetrics(streams, time.time))
    registry.register(SinkMetrics(Feeds([Feed("jsonl", JsonlOutput())])))
    return registry
