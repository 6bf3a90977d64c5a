"""Every metric of the sidecar, in one place.

What the limiter counts anyway is read when Prometheus asks, so that a decision pays for no metric.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from handcounter.pacing.schedule import Reason
from sidecar.deciding.roster import Roster
from sidecar.limits.follower import FpsFollower, RedisState
from sidecar.limits.table import FpsTable
from sidecar.telemetry.stream_metrics import StreamMetrics

if TYPE_CHECKING:
    from sidecar.fleet.scope import FleetScope

DECIDING_METHODS: Final = ("ShouldProcess", "ShouldProcessBatch", "ShouldProcessSession")
"""The methods whose answers are timed."""

METHODS: Final = (
    *DECIDING_METHODS,
    "ListStreams",
    "GetServerInfo",
    "Check",
    "List",
    "Watch",
)
"""What may be asked wrongly: the service's methods, and those of its health."""

REFUSALS: Final = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
"""How sessions are refused or cut."""

_BATCH_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096)

_DECISION_BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """What is counted where it happens."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.batch_frames = Histogram(
            "sidecar_batch_frames",
            "Frames per ShouldProcessBatch call or request of a session.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.decision_seconds = Histogram(
            "sidecar_decision_seconds",
            "Time in the sidecar from a question to its answer, by method.",
            ["method"],
            buckets=_DECISION_BUCKETS_S,
            registry=self.registry,
        )
        self.invalid_requests = Counter(
            "sidecar_invalid_requests",
            "Calls refused for what they ask: nonsense, or too much.",
            ["method"],
            registry=self.registry,
        )
        self.invalid_fps_values = Counter(
            "sidecar_invalid_fps_values", "Distinct values in Redis that are no valid fps.", registry=self.registry
        )
        self.sessions = Gauge("sidecar_sessions", "Sessions that are open.", registry=self.registry)
        self.refused_sessions = Counter(
            "sidecar_refused_sessions", "Sessions refused or cut, by status.", ["status"], registry=self.registry
        )
        self.leased_denials = Counter(
            "sidecar_leased_denials",
            "Frames that clients denied by a lease; in sidecar_decisions too.",
            registry=self.registry,
        )
        self.dropped_leases = Counter(
            "sidecar_dropped_leases",
            "Drops told to sessions: of one stream's lease, or of all at once.",
            ["extent"],
            registry=self.registry,
        )
        self.redis_reads = Counter("sidecar_redis_reads", "Commands sent to read limits.", registry=self.registry)
        self.redis_state_changes = Counter(
            "sidecar_redis_state_changes", "Changes of the state towards Redis.", ["state"], registry=self.registry
        )
        # A series that begins with the first event would hide it: increase() sees what a series adds to its first value.
        for method in DECIDING_METHODS:
            self.decision_seconds.labels(method)
        for method in METHODS:
            self.invalid_requests.labels(method)
        for status in REFUSALS:
            self.refused_sessions.labels(status)
        for state in RedisState:
            self.redis_state_changes.labels(state.name)

    def show(
        self, roster: Roster, table: FpsTable, follower: FpsFollower, *, max_streams: int, shadow: bool = False
    ) -> None:
        """Adds the state of these to every scrape. At most ``max_streams`` streams have series of their own."""
        self.registry.register(_Scrape(roster, follower, shadow=shadow))
        if max_streams:
            self.registry.register(StreamMetrics(roster, table, max_streams))

    def show_fleet(self, fleet: "FleetScope") -> None:
        """Adds what fleet scope knows to every scrape."""
        self.registry.register(_FleetScrape(fleet))


class _FleetScrape(Collector):
    def __init__(self, fleet: "FleetScope") -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        fleet = self._fleet
        yield CounterMetricFamily("sidecar_claim_calls", "Calls of the claim script in Redis.", fleet.call_count)
        yield CounterMetricFamily(
            "sidecar_alone_decisions",
            "Frames decided by this replica alone, Redis being out of reach.",
            fleet.without_redis_count,
        )
        yield GaugeMetricFamily(
            "sidecar_replicas", "Replicas that share the limits, this one included.", fleet.replicas
        )
        yield GaugeMetricFamily("sidecar_claims_in_time", "1 while Redis answers claims in time.", float(fleet.in_time))


class _Scrape(Collector):
    def __init__(self, roster: Roster, follower: FpsFollower, *, shadow: bool) -> None:
        self._roster = roster
        self._follower = follower
        self._shadow = shadow

    def collect(self) -> Iterator[Metric]:
        roster, follower = self._roster, self._follower
        decisions = CounterMetricFamily("sidecar_decisions", "Frames decided, by reason.", labels=["reason"])
        for reason in Reason:
            decisions.add_metric([reason.name], roster.decisions[reason])
        yield decisions
        yield GaugeMetricFamily("sidecar_streams", "Streams that have a schedule.", len(roster))
        yield CounterMetricFamily(
            "sidecar_evicted_streams", "Schedules dropped to make room for another stream's.", roster.evicted
        )
        yield CounterMetricFamily(
            "sidecar_refused_frames", "Frames denied because there was no room for their stream.", roster.refused
        )
        state = GaugeMetricFamily("sidecar_redis_state", "1 at the state towards Redis.", labels=["state"])
        for candidate in RedisState:
            state.add_metric([candidate.name], float(candidate is follower.state))
        yield state
        yield GaugeMetricFamily(
            "sidecar_fps_table_age_seconds", "Seconds since the table was known to agree with Redis.", follower.age_s()
        )
        yield CounterMetricFamily("sidecar_redis_pushes", "Pushes by Redis that the limits changed.", follower.pushes)
        yield CounterMetricFamily(
            "sidecar_redis_resyncs", "Readings of all limits in use that no push led to.", follower.resyncs
        )
        yield GaugeMetricFamily("sidecar_shadow", "1 while all frames are let through (--shadow).", float(self._shadow))
