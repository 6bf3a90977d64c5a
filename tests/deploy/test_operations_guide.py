"""The operations guide names only settings, series and files that exist."""

import re
from pathlib import Path

import pytest
from support.processes.programs import REPOSITORY
from support.worker_metrics import worker_registry

from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings
from worker.publish.ingest_metrics import IngestMetrics
from worker.publish.settings import PublishSettings
from worker.queue.frame import DeadReason, SkipReason
from worker.run_settings import RunSettings

GUIDE = (REPOSITORY / "docs/operations.md").read_text()


@pytest.mark.parametrize(
    ("settings", "prefix"), [((SidecarSettings,), "SIDECAR_"), ((RunSettings, PublishSettings), "WORKER_")]
)
def test_settings_in_the_guide_exist(settings, prefix: str):
    """Each variable that the guide names is a setting."""
    named = set(re.findall(rf"\b{prefix}[A-Z_]+[A-Z]\b", GUIDE))
    assert named
    assert named <= {prefix + name.upper() for program in settings for name in program.model_fields}


def test_flags_of_publishers_exist():
    """Each flag that the guide gives for publishers exists."""
    known = {"--" + name.replace("_", "-") for name in PublishSettings.model_fields}
    assert {"--payload-ttl", "--max-queue", "--prefix", "--stream-name"} <= known & set(re.findall(r"--[a-z-]+", GUIDE))


def test_series_in_the_guide_exist():
    """Each series that the guide names belongs to a program or is recorded by the rules."""
    sidecar = Sidecar(SidecarSettings(scope="fleet"))
    sidecar.metrics.show_certificate(Path("tls.crt"))
    ingest = IngestMetrics(dict, lambda: True, 0)
    metrics = [*sidecar.metrics.registry.collect(), *worker_registry().collect(), *ingest.registry.collect()]
    known = {name for metric in metrics for name in (metric.name, f"{metric.name}_total")}
    named = set(re.findall(r"`((?:hand_counter|sidecar)_[a-z_]+)(?:\{[^}]*\})?`", GUIDE))
    assert len(named) >= 8
    assert named <= known


def test_reasons_in_the_guide_exist():
    """The guide explains every reason of dead letters, and names only existing reasons of skips."""
    for reason in DeadReason:
        assert f"`{reason}`" in GUIDE
    named = set(re.findall(r"skipped:([a-z_]+)", GUIDE))
    assert named <= {reason.value for reason in SkipReason}


def test_files_in_the_guide_exist():
    """The files and folders that the guide names exist."""
    named = set(re.findall(r"(?:k8s|docs|ci|requirements)/[\w./-]+[\w]", GUIDE)) | {"compose.yaml"}
    missing = [name for name in named if not (REPOSITORY / name).exists()]
    assert missing == []


def test_links_in_the_guide_lead_somewhere():
    """Each link within the guide leads to a section."""
    titles = re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= anchors
