"""The names of the worker's metrics, and that docs/metrics.md lists each of them."""

import pytest
from prometheus_client import Counter, Gauge, Histogram, Metric
from support.processes.programs import REPOSITORY
from support.worker_metrics import worker_registry

from worker.metrics import Metrics


@pytest.fixture
def metrics() -> dict[str, Metric]:
    """All metrics, each with a sample, by the names that queries use."""
    metrics = Metrics()
    registry = worker_registry(metrics)
    for each in vars(metrics).values():
        if isinstance(each, Counter | Gauge | Histogram) and each._labelnames:
            each.labels(*each._labelnames)  # without an event it would have no samples
    families = registry.collect()
    return {f"{each.name}_total" if each.type == "counter" else each.name: each for each in families}


def row(name: str, family: Metric) -> str:
    """Returns the line of docs/metrics.md about a metric."""
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    return f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |"


def test_the_page_lists_each_metric(metrics: dict[str, Metric]) -> None:
    """With type, labels and meaning."""
    page = (REPOSITORY / "docs/metrics.md").read_text().partition("## Ingest")[0].splitlines()
    listed = [line for line in page if line.startswith("| `hand_counter_")]
    scraped = [row(name, metrics[name]) for name in sorted(metrics)]
    assert listed == scraped, "the table should be:\n" + "\n".join(scraped)
