import re

from prometheus_client import CollectorRegistry
from support.processes.programs import REPOSITORY

from console.web.feed.load import Load


def test_every_metric_is_documented():
    registry = CollectorRegistry()
    Load(registry)
    made = {f"{each.name}_total" if each.type == "counter" else each.name for each in registry.collect()}
    page = (REPOSITORY / "docs/metrics.md").read_text()
    assert set(re.findall(r"^\| `(console_\w+)`", page, re.MULTILINE)) == made


def test_the_totals_are_over_all_labels():
    load = Load(CollectorRegistry())
    load.redis_commands.labels("get").inc(2)
    load.redis_commands.labels("scan").inc(3)
    load.sidecar_calls.labels("ListStreams").inc()
    assert load.totals() == {"redis": 5.0, "sidecars": 1.0}
