"""Third-party validators accept the Dockerfiles, the manifests and the compose file."""

import json
from pathlib import Path

import pytest
import yaml
from support.deploy import (
    K8S,
    OVERLAYS,
    containers,
    needs_tools,
    pod_template,
    render,
    run,
    tool,
)
from support.files import files
from support.processes.programs import REPOSITORY

pytestmark = needs_tools

TRIVY_EXCEPTIONS: dict[str, str] = {}
"""Checks of trivy that are switched off, each with its reason. Currently none."""


@pytest.fixture(params=OVERLAYS, scope="module")
def documents(request) -> list:
    """Returns the documents of each overlay."""
    return render(K8S / "overlays" / request.param)


def schemas(documents: list, check: bool = True):
    """Validates documents against ci/schemas."""
    if not (REPOSITORY / "ci/schemas/node_modules").exists():
        tool("installed ci/schemas/node_modules")
    script = str(REPOSITORY / "ci/schemas/validate.mjs")
    return run(tool("node"), script, input=json.dumps(documents), check=check)


def test_manifests_match_their_schemas(documents: list):
    """Every object, including custom resources, has only existing fields of the right type."""
    schemas(documents)


@pytest.mark.parametrize("kind", ["Deployment", "PodMonitor", "PrometheusRule"])
def test_schemas_notice_a_field_that_does_not_exist(kind: str):
    """The schemas find a misspelt field, also in a custom resource."""
    broken = [d for d in render(K8S / "overlays/gpu") if d["kind"] == kind]
    broken[0]["spec"]["spelled"] = "wrong"
    refused = schemas(broken, check=False)
    assert refused.returncode == 1
    assert "spelled" in refused.stderr


def test_manifests_pass_the_official_schemas_strictly(documents: list, tmp_path: Path):
    """kubernetes-validate in strict mode accepts everything except custom resources, which it doesn't know."""
    path = tmp_path / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    said = run(tool("kubernetes-validate"), "--strict", str(path))
    unknown = {line.split(" kind ")[1].split()[0] for line in said.stdout.splitlines() if "find schema" in line}
    unknown |= {line.split(" kind ")[1].split()[0] for line in said.stderr.splitlines() if "find schema" in line}
    assert unknown <= {"PodMonitor", "PrometheusRule", "ScaledObject"}


def test_dockerfiles_pass_hadolint():
    """Hadolint reports nothing about the Dockerfiles, at any level."""
    run(tool("hadolint"), *map(str, files("Dockerfile.*")))


def trivy(folder: Path) -> dict[str, str]:
    """Returns the findings of trivy's configuration checks: ids and places."""
    words = ("config", "--skip-check-update", "--quiet", "--format", "json", "--cache-dir", str(folder / ".cache"))
    results = json.loads(run(tool("trivy"), *words, str(folder)).stdout).get("Results", [])
    return {m["ID"]: f"{r['Target']}: {m['Message']}" for r in results for m in r.get("Misconfigurations", [])}


def test_images_and_manifests_pass_trivy(tmp_path: Path):
    """Trivy finds nothing in Dockerfiles and manifests except what is switched off with a reason."""
    for path in files("Dockerfile.*"):
        (tmp_path / path.name).write_text(path.read_text())
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay}.yaml").write_text(yaml.safe_dump_all(render(K8S / "overlays" / overlay)))
    found = trivy(tmp_path)
    assert {i: where for i, where in found.items() if i not in TRIVY_EXCEPTIONS} == {}
    assert set(TRIVY_EXCEPTIONS) <= set(found), "an exception that is no longer needed"


def test_trivy_notices_a_privileged_container(tmp_path: Path):
    """Trivy's checks are installed and find a privileged container."""
    documents = render(K8S / "overlays/dev")
    sidecar, _ = containers(pod_template(documents))
    sidecar["securityContext"] = {"privileged": True}
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump_all(documents))
    assert trivy(tmp_path)


def test_the_compose_file_is_valid():
    """Docker compose accepts the compose file."""
    run(tool("docker-compose"), "--file", str(REPOSITORY / "compose.yaml"), "config", "--quiet")
