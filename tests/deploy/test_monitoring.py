"""Alerts, dashboard and autoscaling use existing metrics, and the alerts fire on their faults."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from support.deploy import K8S, documents_in, read_document, run, tool, walk
from support.processes.programs import REPOSITORY
from support.worker_metrics import worker_registry

from console.web.feed.load import Load
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings
from worker.metrics import Metrics as WorkerMetrics
from worker.publish.ingest_metrics import IngestMetrics

MONITORING = K8S / "components/monitoring"
ALERTS = [Path(__file__).parent / name for name in ("alerts.yaml", "alerts_of_hours.yaml")]
RULES = read_document(MONITORING / "prometheus-rule.yaml")["spec"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
NAME = re.compile(r"\b(?:hand_counter|sidecar|process|console)(?::\w+|_\w+)+")


def series(registry: CollectorRegistry) -> Iterable[str]:
    """Yields the names of all series of a registry, with the suffixes of histograms and counters."""
    for metric in registry.collect():
        yield metric.name
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ())
        yield from (metric.name + suffix for suffix in suffixes)


@pytest.fixture(scope="module")
def existing() -> set[str]:
    """Returns the series of both programs and the recorded ones."""
    recorded = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
    sidecar = Sidecar(SidecarSettings(scope="fleet"))
    sidecar.metrics.show_certificate(Path("tls.crt"))
    ingest = IngestMetrics(dict, lambda: True, 0).registry
    console = CollectorRegistry()
    Load(console)
    programs = (sidecar.metrics.registry, worker_registry(), ingest, console)
    return {*recorded, *(name for registry in programs for name in series(registry))}


def expressions() -> Iterable[tuple[str, str]]:
    """Yields every query of the alerts, the dashboard and the autoscaler, with its place."""
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["name"], variable["query"]
    for mapping in walk(documents_in((K8S / "overlays/keda/scaled-object.yaml").read_text())):
        if "query" in mapping:
            yield "ScaledObject", mapping["query"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_only_metrics_that_exist_are_asked_for(where: str, expression: str, existing: set[str]):
    """Every alert, graph and autoscaler uses only existing series."""
    without_labels = re.sub(r"\{[^}]*\}|by \([^)]*\)|label_values\(([^,]*),[^)]*\)", r"\1", expression)
    named = set(NAME.findall(without_labels))
    assert named or where == "datasource"
    assert named <= existing


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path):
    """Promtool parses each, with Grafana's variables replaced by what Grafana puts there."""
    values = {"$namespace": ".*", "$__rate_interval": "1m", "${datasource}": "prometheus"}
    rules = []
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in values.items():
                query = query.replace(name, value)
            assert "$" not in query
            rules.append({"record": f"panel_{panel['id']}:{target['refId']}", "expr": query})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(tool("promtool"), "check", "rules", str(tmp_path / "rules.yaml"))


def test_the_dashboard_has_the_form_that_grafana_expects():
    """Panels have places of their own and titles, their lines names, and each label in a name is one of the query's."""
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in DASHBOARD["panels"]]
    assert all(x + w <= 24 and h > 0 for x, _, w, h in places)
    assert len({place[:2] for place in places}) == len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"] in {"none", "short", "reqps", "s", "percentunit"}
        ids = [target["refId"] for target in panel["targets"]]
        assert ids == [chr(ord("A") + place) for place in range(len(ids))]
        for target in panel["targets"]:
            grouped = {name for names in re.findall(r"by \(([^)]*)\)", target["expr"]) for name in names.split(", ")}
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels <= grouped or not grouped, (panel["title"], labels, grouped)
            assert {name["name"] for name in DASHBOARD["templating"]["list"]} >= set(
                re.findall(r"\$\{?([a-z]\w*)", json.dumps(target))
            )


def test_the_search_for_names_finds_them():
    """The pattern of the test above finds plain, suffixed and recorded names."""
    found = NAME.findall("rate(hand_counter_dead_total[5m]) > hand_counter:queue_age_seconds:p90 / sidecar_streams")
    assert found == ["hand_counter_dead_total", "hand_counter:queue_age_seconds:p90", "sidecar_streams"]


def test_labels_have_values_that_exist():
    """The reasons in the rules are reasons that the worker uses."""
    registry = WorkerMetrics().registry
    reasons = {s.labels["reason"] for m in registry.collect() for s in m.samples if "reason" in s.labels}
    for where, expression in expressions():
        for value in re.findall(r'reason=~?"([^"]+)"', expression):
            assert set(value.split("|")) <= reasons, where


def test_each_alert_says_what_to_do():
    """Each alert has a severity, a summary, and an existing section of the operations guide."""
    guide = (REPOSITORY / "docs/operations.md").read_text()
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", guide, re.MULTILINE)
    }
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert len(alerts) >= 8
    for alert in alerts:
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert alert["annotations"]["summary"]
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "https://docs.example.com/hand-counter/docs/operations.md"
        assert anchor in anchors


def test_the_dashboard_needs_no_namespace():
    """With compose no series has a namespace, and the dashboard shows them all."""
    (variable,) = (v for v in DASHBOARD["templating"]["list"] if v["name"] == "namespace")
    assert (variable["includeAll"], variable["allValue"]) == (True, ".*")
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            assert 'namespace="' not in target["expr"]


def test_kube_prometheus_stack_selects_the_monitors_and_rules():
    """Its Prometheus takes only those that have the label of its release."""
    for name in ("pod-monitor", "prometheus-rule"):
        labels = read_document(MONITORING / f"{name}.yaml")["metadata"]["labels"]
        assert labels == {"release": "kube-prometheus-stack"}


def test_every_program_is_scraped():
    """The PodMonitor selects the pods of each program with an HTTP endpoint, and names their ports."""
    monitor = read_document(MONITORING / "pod-monitor.yaml")["spec"]
    (label,) = monitor["selector"]["matchLabels"].items()
    scraped = {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]}
    served = set()
    for path in (REPOSITORY / "k8s").glob("*/**/deployment.yaml"):
        deployment = read_document(path)
        assert label in deployment["spec"]["template"]["metadata"]["labels"].items()
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            served |= {p["name"] for p in container.get("ports", []) if p["name"].endswith("-http")}
    assert scraped >= served >= {"worker-http", "ingest-http", "console-http"}


def test_the_dashboard_is_the_one_that_is_written():
    """dashboard.json is up to date with its list of panels (`make dashboard`)."""
    written = subprocess.run(
        [sys.executable, str(REPOSITORY / "ci/dashboard.py")], capture_output=True, check=True
    ).stdout
    assert json.loads(written) == DASHBOARD


def test_rules_are_valid_and_fire_when_they_should(tmp_path: Path):
    """Promtool accepts the rules, and its tests of the alerts pass."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    for path in ALERTS:
        shutil.copy(path, tmp_path)
    promtool = tool("promtool")
    run(promtool, "check", "rules", str(tmp_path / "rules.yaml"))
    run(promtool, "test", "rules", *(path.name for path in ALERTS), cwd=tmp_path)


def test_each_alert_is_tested():
    """Each alert has a test that it fires."""
    tests = "".join(path.read_text() for path in ALERTS)
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert rule.get("alert", rule.get("record")) in tests
