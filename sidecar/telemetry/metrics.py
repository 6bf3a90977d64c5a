"""All metrics of the sidecar.

Counters that other parts keep anyway are read when Prometheus scrapes, so that a decision pays only for its time and the
size of its batch.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
from process.pem import expiry
from sidecar.connections.errors import Problem
from sidecar.deciding.roster import Roster
from sidecar.fleet.scope import FleetScope
from sidecar.limits.following import Follower, RedisState
from sidecar.limits.layers import Layers
from sidecar.limits.table import FpsTable
from sidecar.limits.watchers import Watchers
from sidecar.telemetry.stream_metrics import StreamMetrics

DECIDING_METHODS: Final = ("ShouldProcess", "ShouldProcessBatch", "ShouldProcessSession")
"""The methods whose answers are timed."""

METHODS: Final = (
    *DECIDING_METHODS,
    "WatchLimits",
    "ListStreams",
    "GetServerInfo",
    "Check",
    "List",
    "Watch",
)
"""The methods whose requests may be invalid: those of the service and of its health."""

REFUSALS: Final = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
"""The statuses of sessions and watches that are rejected or cut."""

_BATCH_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096)

_DECISION_BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """The registry of all metrics, and those that are recorded when something happens."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.batch_frames = Histogram(
            "sidecar_batch_frames",
            "Frames per ShouldProcessBatch call or session request.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.decision_seconds = Histogram(
            "sidecar_decision_seconds",
            "Time in the sidecar from a request for decisions to its answer, by method.",
            ["method"],
            buckets=_DECISION_BUCKETS_S,
            registry=self.registry,
        )
        self.invalid_requests = Counter(
            "sidecar_invalid_requests",
            "Requests rejected as invalid or too large, by method.",
            ["method"],
            registry=self.registry,
        )
        self.invalid_fps_values = Counter(
            "sidecar_invalid_fps_values", "Distinct values in Redis that aren't a valid fps.", registry=self.registry
        )
        self.sessions = Gauge("sidecar_sessions", "Open sessions.", registry=self.registry)
        self.refused_sessions = Counter(
            "sidecar_refused_sessions", "Sessions rejected or cut, by status.", ["status"], registry=self.registry
        )
        self.leased_denials = Counter(
            "sidecar_leased_denials",
            "Frames that clients denied by a lease; sidecar_decisions counts them too.",
            registry=self.registry,
        )
        self.dropped_leases = Counter(
            "sidecar_dropped_leases",
            "Lease revocations sent to sessions: of one stream's lease, or of all leases.",
            ["extent"],
            registry=self.registry,
        )
        self.refused_watches = Counter(
            "sidecar_refused_watches",
            "Calls of WatchLimits rejected or cut, by status.",
            ["status"],
            registry=self.registry,
        )
        self.told_limits = Counter(
            "sidecar_told_limits", "Limits told to watchers: at first, and after each change.", registry=self.registry
        )
        self.redis_reads = Counter(
            "sidecar_redis_reads", "Commands sent to Redis to read limits.", registry=self.registry
        )
        self.redis_state_changes = Counter(
            "sidecar_redis_state_changes",
            "Changes of the connection to Redis, by new state.",
            ["state"],
            registry=self.registry,
        )
        # Exported from start-up: increase() would miss the first event of a series that begins with it.
        for method in DECIDING_METHODS:
            self.decision_seconds.labels(method)
        for method in METHODS:
            self.invalid_requests.labels(method)
        for status in REFUSALS:
            self.refused_sessions.labels(status)
            self.refused_watches.labels(status)
        for state in RedisState:
            self.redis_state_changes.labels(state.name)

    def show(
        self, roster: Roster, table: FpsTable, follower: Follower, *, max_streams: int, shadow: bool = False
    ) -> None:
        """Adds the metrics of these to every scrape, and per-stream metrics of at most ``max_streams`` streams."""
        self.registry.register(_Scrape(roster, follower, shadow=shadow))
        if max_streams:
            self.registry.register(StreamMetrics(roster, table, max_streams))

    def show_watchers(self, watchers: Watchers) -> None:
        """Adds how many clients watch limits, and how many streams they watch, to every scrape."""
        self.registry.register(_WatchersScrape(watchers))

    def show_layers(self, layers: Layers) -> None:
        """Adds how many patterns and boosts there are to every scrape."""
        self.registry.register(_LayersScrape(layers))

    def show_certificate(self, certificate: Path) -> None:
        """Adds when the server's certificate expires to every scrape."""
        self.registry.register(_CertificateScrape(certificate))

    def show_fleet(self, fleet: FleetScope) -> None:
        """Adds the metrics of fleet scope to every scrape."""
        self.registry.register(_FleetScrape(fleet))


class _WatchersScrape(Collector):
    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("sidecar_watchers", "Open calls of WatchLimits.", len(self._watchers))
        yield GaugeMetricFamily(
            "sidecar_watched_streams", "Streams whose limits are told to watchers.", self._watchers.streams
        )


class _LayersScrape(Collector):
    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def collect(self) -> Iterator[Metric]:
        layers = self._layers
        for name, what, fields, in_force in (
            ("sidecar_patterns", "Patterns", layers.patterns, len(layers.patterns.values)),
            ("sidecar_boosts", "Boosts that haven't ended", layers.boosts, layers.boosts_in_force()),
        ):
            counts = GaugeMetricFamily(name, f"{what}: in force, or ignored and why.", labels=["state"])
            counts.add_metric(["in_force"], in_force)
            counts.add_metric(["invalid"], len(fields.invalid))
            counts.add_metric(["refused"], len(fields.refused))
            yield counts


class _CertificateScrape(Collector):
    def __init__(self, certificate: Path) -> None:
        self._certificate = certificate

    def collect(self) -> Iterator[Metric]:
        expires = expiry(self._certificate)
        yield GaugeMetricFamily(
            "sidecar_certificate_expiry_timestamp_seconds",
            "When the certificate in --tls-cert expires, seconds since 1970; NaN if it can't be read.",
            math.nan if expires is None else expires,
        )


class _FleetScrape(Collector):
    def __init__(self, fleet: FleetScope) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        fleet = self._fleet
        yield CounterMetricFamily("sidecar_claim_calls", "Calls of the claim script in Redis.", fleet.call_count)
        yield CounterMetricFamily(
            "sidecar_alone_decisions",
            "Frames decided without Redis, at this replica's share of the limit.",
            fleet.without_redis_count,
        )
        rejected = CounterMetricFamily(
            "sidecar_rejected_claims", "Claims that Redis rejected, by the first word of its error.", labels=["code"]
        )
        for code, count in fleet.rejected.items():
            rejected.add_metric([code], count)
        yield rejected
        yield GaugeMetricFamily(
            "sidecar_replicas", "Replicas that share the limits, including this one.", fleet.replicas
        )
        yield GaugeMetricFamily(
            "sidecar_claims_in_time", "1 while Redis answers claims in time, else 0.", float(fleet.in_time)
        )


class _Scrape(Collector):
    def __init__(self, roster: Roster, follower: Follower, *, shadow: bool) -> None:
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
        clocks = CounterMetricFamily(
            "sidecar_clock_changes", "Restarts and jumps of the streams' clocks.", labels=["change"]
        )
        for change, count in roster.clock_changes.items():
            clocks.add_metric([change.value], count)
        yield clocks
        yield CounterMetricFamily(
            "sidecar_evicted_streams", "Schedules evicted to make room for another stream.", roster.evicted
        )
        yield CounterMetricFamily(
            "sidecar_refused_frames",
            "Frames denied because there was no room for the schedule of their stream.",
            roster.refused,
        )
        state = GaugeMetricFamily(
            "sidecar_redis_state",
            "1 for the current state of the connection to Redis, 0 for the others.",
            labels=["state"],
        )
        for candidate in RedisState:
            state.add_metric([candidate.name], float(candidate is follower.state))
        yield state
        problem = GaugeMetricFamily(
            "sidecar_redis_problem",
            "1 for the reason why the limits can't be read from Redis, 0 for the others.",
            labels=["problem"],
        )
        for possible in Problem:
            problem.add_metric([possible.name], float(possible is follower.problem))
        yield problem
        yield GaugeMetricFamily(
            "sidecar_fps_table_age_seconds", "Seconds since the fps table last agreed with Redis.", follower.age_s()
        )
        yield CounterMetricFamily("sidecar_redis_pushes", "Changes of the limits pushed by Redis.", follower.pushes)
        yield CounterMetricFamily(
            "sidecar_redis_resyncs", "Readings of all limits in use that no push caused.", follower.resyncs
        )
        yield GaugeMetricFamily(
            "sidecar_shadow", "1 in shadow mode (--shadow), when all frames are admitted.", float(self._shadow)
        )
