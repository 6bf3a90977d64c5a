"""Every metric of the sidecar, in one place.

What the limiter counts anyway is read when Prometheus asks, so that a decision pays for no metric.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.fps_follower import FpsFollower, RedisState
from sidecar.limiter import Limiter
from sidecar.schedule import Reason

_BATCH_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096)


class Metrics:
    """What is counted where it happens."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.batch_frames = Histogram(
            "sidecar_batch_frames",
            "Frames per ShouldProcessBatch call.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.invalid_requests = Counter(
            "sidecar_invalid_requests", "Calls answered with INVALID_ARGUMENT.", ["method"], registry=self.registry
        )
        self.invalid_fps_values = Counter(
            "sidecar_invalid_fps_values", "Distinct values in Redis that are no valid fps.", registry=self.registry
        )
        self.redis_reads = Counter("sidecar_redis_reads", "HMGETs sent to read limits.", registry=self.registry)
        self.redis_state_changes = Counter(
            "sidecar_redis_state_changes", "Changes of the state towards Redis.", ["state"], registry=self.registry
        )

    def show(self, limiter: Limiter, follower: FpsFollower) -> None:
        """Adds what these two know to every scrape."""
        self.registry.register(_Scrape(limiter, follower))


class _Scrape(Collector):
    def __init__(self, limiter: Limiter, follower: FpsFollower) -> None:
        self._limiter = limiter
        self._follower = follower

    def collect(self) -> Iterator[Metric]:
        limiter, follower = self._limiter, self._follower
        decisions = CounterMetricFamily("sidecar_decisions", "Frames decided, by reason.", labels=["reason"])
        for reason in Reason:
            decisions.add_metric([reason.name], limiter.decisions[reason])
        yield decisions
        yield GaugeMetricFamily("sidecar_streams", "Streams that have a schedule.", len(limiter))
        yield CounterMetricFamily(
            "sidecar_evicted_streams", "Schedules dropped to make room for another stream's.", limiter.evicted
        )
        yield CounterMetricFamily(
            "sidecar_refused_frames", "Frames denied because there was no room for their stream.", limiter.refused
        )
        state = GaugeMetricFamily("sidecar_redis_state", "1 at the state towards Redis.", labels=["state"])
        for candidate in RedisState:
            state.add_metric([candidate.name], float(candidate is follower.state))
        yield state
        yield GaugeMetricFamily(
            "sidecar_fps_table_age_seconds", "Seconds since the table was known to agree with Redis.", follower.age_s()
        )
