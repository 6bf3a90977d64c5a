"""Mistakes in the manifests that the schemas of Kubernetes can't find."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from podrun.manifest import Manifests, quantity
from pydantic_settings import BaseSettings
from support.deploy import (
    K8S,
    OVERLAYS,
    SCALING_OVERLAYS,
    containers,
    one,
    pod_template,
    render,
    run,
    tool,
    walk,
    with_fleet_scope,
)
from support.files import files
from support.processes.programs import REPOSITORY

from sidecar.settings import SidecarSettings
from worker.run_settings import RunSettings

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
EXTERNAL = {"hand-counter-redis-sidecar", "hand-counter-redis-worker"}
"""The Secrets with the address of Redis and the login of each program, which the operator creates in production."""

MARGIN_S = 5.0
"""The margin for stopping, in addition to the grace periods of both programs."""


class UniqueKeys(yaml.SafeLoader):
    """A YAML loader that rejects a duplicate key; the usual one takes the last."""

    def construct_mapping(self, node, deep=False):
        plain = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=deep) for key in plain]
        assert len(keys) == len(set(keys)), f"duplicate key, {node.start_mark}"
        return super().construct_mapping(node, deep)


@pytest.fixture(params=[*OVERLAYS, *SCALING_OVERLAYS], scope="module")
def overlay(request, tmp_path_factory):
    """Returns the documents of each overlay; the scaling ones are rendered with fleet scope."""
    if request.param in OVERLAYS:
        return render(K8S / "overlays" / request.param)
    return render(with_fleet_scope(tmp_path_factory.mktemp("fleet"), request.param))


@pytest.mark.parametrize("path", files("k8s/**/*.yaml", "compose.yaml"), ids=lambda path: path.name)
def test_no_key_is_duplicated(path: Path):
    """No mapping has a duplicate key, whose first value would silently be lost."""
    list(yaml.load_all(path.read_text(), UniqueKeys))


def test_a_duplicate_key_is_found():
    """The loader of the test above finds a duplicate key."""
    with pytest.raises(AssertionError, match="duplicate"):
        yaml.load("a: 1\nb: 2\na: 3\n", UniqueKeys)


def test_references_lead_somewhere(overlay):
    """Every referenced ConfigMap, Secret and ServiceAccount exists and has the referenced key."""
    there = {(d["kind"], d["metadata"]["name"]): d for d in overlay}
    kinds = {
        "configMapRef": "ConfigMap",
        "configMapKeyRef": "ConfigMap",
        "secretRef": "Secret",
        "secretKeyRef": "Secret",
    }
    followed = 0
    for mapping in walk(overlay):
        for field, kind in kinds.items():
            if field in mapping and mapping[field]["name"] not in EXTERNAL:
                target = there[kind, mapping[field]["name"]]
                assert mapping[field].get("key") in (None, *target["data"])
                followed += 1
    assert followed >= 2
    assert ("ServiceAccount", pod_template(overlay)["spec"]["serviceAccountName"]) in there
    priority = pod_template(overlay)["spec"].get("priorityClassName")
    assert priority is None or ("PriorityClass", priority) in there


def test_settings_roll_the_pods(overlay):
    """The names of the ConfigMaps contain a hash of their content, so a change restarts the pods."""
    names = [source["configMapRef"]["name"] for c in containers(pod_template(overlay)) for source in c["envFrom"]]
    assert len(names) == 2
    assert all(len(name.rpartition("-")[2]) == 10 for name in names)


def test_selectors_pick_the_pods(overlay):
    """Every label selector in the namespace selects existing pods."""
    templates = [d["spec"]["template"]["metadata"]["labels"] for d in overlay if d["kind"] == "Deployment"]
    selectors = []
    for document in overlay:
        spec = document.get("spec", {})
        if document["kind"] in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
            selectors.append(spec["selector"]["matchLabels"])
        elif document["kind"] == "Service":
            selectors.append(spec["selector"])
        elif document["kind"] == "NetworkPolicy":
            selectors.append(spec["podSelector"]["matchLabels"])
    spread = pod_template(overlay)["spec"]["topologySpreadConstraints"]
    selectors += [constraint["labelSelector"]["matchLabels"] for constraint in spread]
    assert len(selectors) >= 4
    for selector in selectors:
        assert any(selector.items() <= labels.items() for labels in templates), selector


def test_ports_have_the_names_that_are_used(overlay):
    """The ports of probes, Services, NetworkPolicies and the PodMonitor exist in the containers."""
    named = {}
    for document in overlay:
        if document["kind"] != "Deployment":
            continue
        ports = [port for c in containers(document["spec"]["template"]) for port in c.get("ports", [])]
        assert len({port["name"] for port in ports}) == len(ports), "duplicate name in a pod"
        named[document["metadata"]["name"]] = {port["name"] for port in ports}
        for container in containers(document["spec"]["template"]):
            if "ports" not in container:
                assert not [key for key in container if key.endswith("Probe")]
                continue
            own = {port["name"] for port in container["ports"]} | {p["containerPort"] for p in container["ports"]}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container[kind]
                (way,) = probe.keys() & {"grpc", "httpGet", "tcpSocket"}
                assert probe[way]["port"] in own
    for policy in (d for d in overlay if d["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= named[policy["metadata"]["name"]]
    for service in (d for d in overlay if d["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named[service["metadata"]["name"]]
    for monitor in (d for d in overlay if d["kind"] == "PodMonitor"):
        scraped = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        assert scraped == {"sidecar-http", "worker-http"} <= named["hand-counter"]


def test_the_sidecar_is_a_native_one(overlay):
    """The sidecar is up before the worker and stops after it: an init container that restarts, with a startup probe."""
    (sidecar,) = pod_template(overlay)["spec"]["initContainers"]
    assert sidecar["name"] == "sidecar"
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["grpc"]["port"] == sidecar["livenessProbe"]["grpc"]["port"]


def test_both_mount_the_socket(overlay):
    """The worker uses the socket on which the sidecar listens, in a volume that both mount."""
    sidecar, worker = containers(pod_template(overlay))
    listen = {entry["name"]: entry.get("value") for entry in sidecar["env"]}["SIDECAR_LISTEN"]
    asked = {entry["name"]: entry.get("value") for entry in worker["env"]}["WORKER_SIDECAR"]
    folder = str(Path(listen.removeprefix("unix:")).parent)
    assert listen == asked
    for container in (sidecar, worker):
        assert {"name": "socket", "mountPath": folder} in container["volumeMounts"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_pod_scope_means_one_pod(name):
    """With pod scope there is exactly one pod, also during an update, and no autoscaler."""
    documents = render(K8S / "overlays" / name)
    (settings,) = (d for d in documents if d["metadata"]["name"].startswith("sidecar-settings-"))
    deployment = one(documents, "Deployment", "hand-counter")["spec"]
    if settings["data"].get("SIDECAR_SCOPE", "pod") == "pod":
        assert deployment["replicas"] == 1
        assert deployment["strategy"] == {"type": "Recreate"}
        assert not {"HorizontalPodAutoscaler", "ScaledObject"} & {d["kind"] for d in documents}


@pytest.mark.parametrize("name", SCALING_OVERLAYS)
def test_scaling_demands_fleet_scope(name, tmp_path):
    """An overlay that scales the workers renders with fleet scope, and doesn't with pod scope."""
    fleet = with_fleet_scope(tmp_path, name)
    documents = render(fleet)
    assert {"HorizontalPodAutoscaler", "ScaledObject"} & {d["kind"] for d in documents}
    assert "replicas" not in one(documents, "Deployment")["spec"], (
        "the autoscaler and the manifest would both set the replicas"
    )
    settings = tmp_path / "k8s/base/sidecar.env"
    for scope in ("SIDECAR_SCOPE=pod", ""):
        settings.write_text(settings.read_text().replace("SIDECAR_SCOPE=fleet", scope))
        refused = run(tool("kubectl"), "kustomize", str(fleet), check=False)
        assert refused.returncode
        assert "SIDECAR_SCOPE" in refused.stderr
        settings.write_text(settings.read_text() + "\nSIDECAR_SCOPE=fleet\n" if not scope else settings.read_text())


def settings_of(documents, monkeypatch) -> tuple[SidecarSettings, RunSettings]:
    """Returns the settings of both programs for the environment in the manifests."""
    secrets = [
        {"kind": "Secret", "metadata": {"name": name}, "stringData": {"url": f"rediss://{name}:x@r:1/0"}}
        for name in EXTERNAL
    ]
    if not any(d["kind"] == "Secret" for d in documents):
        documents = [*documents, *secrets]
    kinds = ("ConfigMap", "Secret")
    template = one(documents, "Deployment", "hand-counter")
    manifests = Manifests([template, *(d for d in documents if d["kind"] in kinds)])
    made = []
    for raw, settings in zip(containers(template["spec"]["template"]), (SidecarSettings, RunSettings), strict=True):
        environment = manifests._environment(raw["name"], raw, {})
        if "scope" not in SidecarSettings.model_fields:
            environment.pop(
                "SIDECAR_SCOPE", None
            )  # required by the scaling overlays, and not a setting of this sidecar
        assert_known(environment, settings)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            made.append(settings())
    return made[0], made[1]


def assert_known(environment: dict[str, str], settings: type[BaseSettings]) -> None:
    """Asserts that every variable with the program's prefix is one of its settings."""
    prefix = settings.model_config["env_prefix"]
    known = {(prefix + name).upper() for name in settings.model_fields}
    assert {name for name in environment if name.startswith(prefix)} <= known
    assert all(name.startswith(prefix) for name in environment)


def test_settings_are_what_the_programs_know(overlay, monkeypatch):
    """Each variable in the manifests is a setting of its program with a valid value."""
    sidecar, worker = settings_of(overlay, monkeypatch)
    assert sidecar.fps == worker.fps, "the worker's fallback differs from the sidecar's default"


def test_the_grace_period_fits_the_drain(overlay, monkeypatch):
    """The worker can finish what it holds, and the sidecar can stop after it, before the kubelet kills them."""
    sidecar, worker = settings_of(overlay, monkeypatch)
    grace = pod_template(overlay)["spec"]["terminationGracePeriodSeconds"]
    assert worker.grace + sidecar.grace + MARGIN_S <= grace


def test_threads_are_what_is_requested(overlay):
    """The worker's threads match its CPU request, not the node's processors."""
    worker = pod_template(overlay)["spec"]["containers"][0]
    (settings,) = (d for d in overlay if d["metadata"]["name"].startswith("worker-settings-"))
    assert int(settings["data"]["WORKER_THREADS"]) == quantity(worker["resources"]["requests"]["cpu"])


def test_every_container_is_limited(overlay):
    """Each container requests and limits CPU and memory, and requests no more than its limit."""
    for document in (d for d in overlay if d["kind"] == "Deployment"):
        for container in containers(document["spec"]["template"]):
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            for name in ("cpu", "memory"):
                assert quantity(requests[name]) <= quantity(limits[name])


def test_pods_are_restricted(overlay):
    """The pods meet the restricted Pod Security Standard, which their namespace enforces, and more."""
    namespace = one(overlay, "Namespace")["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for document in (d for d in overlay if d["kind"] == "Deployment"):
        assert document["metadata"]["namespace"] == namespace["name"]
        spec = document["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all("emptyDir" in volume for volume in spec.get("volumes", []))
        for container in containers(document["spec"]["template"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_production_has_a_gpu_and_development_has_none():
    """The worker gets one GPU in the overlay gpu, and none in dev."""
    for name, wanted in (("gpu", 1), ("dev", None)):
        (worker,) = pod_template(render(K8S / "overlays" / name))["spec"]["containers"]
        assert worker["resources"]["limits"].get("nvidia.com/gpu") == wanted


def test_no_secret_is_in_the_repository():
    """Only the overlay dev generates Secrets, and they hold no password."""
    assert not [d for d in render(K8S / "overlays/gpu") if d["kind"] == "Secret"]
    secrets = yaml.safe_load((K8S / "overlays/dev/kustomization.yaml").read_text())["secretGenerator"]
    assert len(secrets) == 3
    for secret in secrets:
        (literal,) = secret["literals"]
        assert re.fullmatch(r"url=redis://[a-z-]+@valkey:6379/0", literal)


def test_images_are_those_of_this_version(overlay):
    """The manifests and the compose file use the images of the version in pyproject.toml."""
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"].values()
    templates = [d["spec"]["template"] for d in overlay if d["kind"] == "Deployment"]
    images = [container["image"] for template in templates for container in containers(template)]
    images += [service["image"] for service in compose]
    ours = [image for image in images if image.startswith("hand-counter/")]
    assert len(ours) >= 4
    assert {image.partition(":")[2].removesuffix("-cuda") for image in ours} == {VERSION}


def test_compose_gives_settings_that_the_programs_know(monkeypatch):
    """Each variable in the compose file is a setting of its program with a valid value."""
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    for name, settings in (("sidecar", SidecarSettings), ("worker", RunSettings), ("publisher", RunSettings)):
        environment = services[name]["environment"]
        assert_known(environment, settings)
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            settings()
