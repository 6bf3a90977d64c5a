"""The names of the metrics, and that docs/metrics.md lists each of them."""

import re
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric
from support.models.sidecar_world import World
from support.processes.programs import REPOSITORY

from handcounter.pacing.schedule import Pacing
from handcounter.ratelimit.v1 import rate_limit_pb2
from process.redis_url import parse_redis_url
from sidecar.connections.servers import RedisServers
from sidecar.deciding.lease_book import LeaseBook
from sidecar.fleet.scope import FleetScope
from sidecar.limits.follower import FpsFollower
from sidecar.rpc.session import Sessions
from sidecar.telemetry.metrics import Metrics

BASE_UNITS = ("_seconds", "_bytes", "_ratio")
OTHER_UNITS = re.compile(r"_(ms|milliseconds|us|minutes|hours|kb|mb|percent)(_|$)")


@pytest.fixture
async def metrics() -> dict[str, Metric]:
    """All metrics, by name, of a sidecar in fleet scope with a certificate that has decided a frame."""
    world, metrics = World(), Metrics()
    servers = RedisServers(parse_redis_url("redis://127.0.0.1:1"))
    metrics.show(world.roster, world.table, FpsFollower(world.table, servers, "key"), max_streams=10)
    metrics.show_fleet(FleetScope(servers, LeaseBook(), pacing=Pacing.GCRA))
    metrics.show_certificate(Path("none"))
    metrics.show_watchers(world.watchers)
    metrics.show_layers(world.table.layers)
    for counted in vars(metrics).values():
        if isinstance(counted, Counter | Gauge | Histogram) and counted._labelnames:
            counted.labels(*counted._labelnames)  # without an event it would have no samples
    world.decide("cam1", 1.0, world.now)
    return {exposed_name(family): family for family in metrics.registry.collect()}


def exposed_name(family: Metric) -> str:
    """Returns the name that queries use."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def row(name: str, family: Metric) -> str:
    """Returns the line of docs/metrics.md about a metric."""
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    return f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |"


async def test_the_page_lists_each_metric(metrics: dict[str, Metric]) -> None:
    """docs/metrics.md has exactly the metrics that a scrape has, with type, labels and meaning."""
    page = (REPOSITORY / "docs/metrics.md").read_text().splitlines()
    listed = [line for line in page if line.startswith("| `sidecar_")]
    scraped = [row(name, metrics[name]) for name in sorted(metrics) if name.startswith("sidecar_")]
    assert listed == scraped, "the table should be:\n" + "\n".join(scraped)


async def test_the_first_event_is_an_increase() -> None:
    """Counters and histograms are exported from start-up, with all values of their labels."""
    metrics = Metrics()
    Sessions(World().limiter, LeaseBook(), metrics)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if family.type == "counter" or sample.name.endswith("_count")
    }
    services = (rate_limit_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR)
    methods = [method.name for file in services for each in file.services_by_name.values() for method in each.methods]
    for name, values in {
        "sidecar_invalid_requests_total": methods,
        "sidecar_refused_sessions_total": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"],
        "sidecar_redis_state_changes_total": ["TRACKING", "POLLING", "AWAY"],
        "sidecar_dropped_leases_total": ["stream", "all"],
        "sidecar_decision_seconds_count": ["ShouldProcess", "ShouldProcessBatch", "ShouldProcessSession"],
    }.items():
        assert {value: samples.get((name, value)) for value in values} == dict.fromkeys(values, 0.0), name
        assert sum(key[0] == name for key in samples) == len(values)


async def test_names_follow_the_rules_of_prometheus(metrics: dict[str, Metric]) -> None:
    """One prefix, snake_case, _total only for counters, base units, a help text that is a sentence."""
    for name, family in metrics.items():
        if not name.startswith("sidecar_"):
            assert name.startswith(("process_", "python_"))
            continue
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name)
        assert name.endswith("_total") == (family.type == "counter")
        assert not OTHER_UNITS.search(name)
        assert family.type != "histogram" or name.endswith((*BASE_UNITS, "_frames"))
        assert family.documentation.endswith(".")
        assert family.samples
