"""Shared by the tests of images and manifests: rendering, tools, and walking through documents."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.processes.programs import REPOSITORY

K8S = REPOSITORY / "k8s"
SCALING_OVERLAYS = ("keda", "hpa")
POD_OVERLAYS = ("dev", "gpu", "partitions", *SCALING_OVERLAYS)
"""The overlays with one Deployment or StatefulSet of workers."""
WORKLOADS = ("Deployment", "StatefulSet")
OVERLAYS = (*POD_OVERLAYS, "shards", "cameras")
SHIPPING = bool(os.environ.get("HAND_COUNTER_SHIP"))
"""Set by `make ship`, which installs every tool. There a missing tool is a failure; otherwise its tests are skipped."""

LOGINS = {"hand-counter-redis-sidecar", "hand-counter-redis-worker", "hand-counter-redis-publisher"}
"""The Secrets with the address of Redis and the login of each program."""

needs_engine = pytest.mark.skipif(not SHIPPING, reason="needs the engine and the images of `make ship`")
needs_tools = pytest.mark.skipif(not SHIPPING, reason="needs the validators that `make ship` installs")


def tool(name: str) -> str:
    """Returns the path of a program. If it is missing, the test is skipped, or fails in `make ship`."""
    found = shutil.which(name, path=f"{REPOSITORY / '.venv/ship/bin'}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        (pytest.fail if SHIPPING else pytest.skip)(f"{name} is not installed; `make ship` installs it")
    return found


GO = {"GOGC": "400"}
"""With more garbage before it is collected, kubectl and promtool take a quarter less of the CPU, and 100 MB of memory."""


def run(
    *words: str, check: bool = True, env: Mapping[str, str] = os.environ, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a program; if it fails, the test fails with its output."""
    done = subprocess.run(words, text=True, capture_output=True, env={**GO, **env}, **options)
    if check and done.returncode:
        pytest.fail(f"{' '.join(words)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def documents_in(text: str) -> list[dict[str, Any]]:
    """Returns the documents in YAML."""
    # libyaml's loader takes a tenth of the time.
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def read_document(path: Path) -> dict[str, Any]:
    """Returns the only document of a file."""
    (found,) = documents_in(path.read_text())
    return found


def compose_services() -> dict[str, dict[str, Any]]:
    """Returns the services of the compose file."""
    services: dict[str, dict[str, Any]] = read_document(REPOSITORY / "compose.yaml")["services"]
    return services


def render(folder: Path) -> list[dict[str, Any]]:
    """Returns the documents of an overlay."""
    return documents_in((_kustomize_once if folder.is_relative_to(K8S) else _kustomize)(folder))


def _kustomize(folder: Path) -> str:
    return run(tool("kubectl"), "kustomize", str(folder)).stdout


_kustomize_once = functools.cache(_kustomize)


def one(documents: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """Returns the only document of a kind, or of a kind and a name."""
    (found,) = (d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"]))
    return found


def deployments(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the Deployments and StatefulSets, of which every overlay has at least one."""
    found = [d for d in documents if d["kind"] in WORKLOADS]
    assert found
    return found


def pod_template(documents: list[dict[str, Any]], name: str = "hand-counter") -> dict[str, Any]:
    """Returns the pod template of a Deployment or StatefulSet."""
    (found,) = (each for each in deployments(documents) if each["metadata"]["name"] == name)
    template: dict[str, Any] = found["spec"]["template"]
    return template


def containers(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Returns all containers of a pod template, the sidecars first."""
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


def walk(node: object) -> Iterator[dict[str, Any]]:
    """Yields every mapping in a document, at any depth."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)
