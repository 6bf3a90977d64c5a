"""Mistakes in the manifests that the schemas of Kubernetes can't find."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from support.deploy import (
    K8S,
    LOGINS,
    OVERLAYS,
    SCALING_OVERLAYS,
    WORKLOADS,
    containers,
    deployments,
    one,
    pod_template,
    render,
    walk,
)
from support.files import files

from worker.queue.partitions import parse_share

EXTERNAL = {*LOGINS, "camera-door", "camera-yard"}
"""The Secrets that the operator creates in production: the logins, and each camera's URL."""


class UniqueKeys(yaml.CSafeLoader):
    """A YAML loader that rejects a duplicate key; the usual one takes the last."""

    def construct_mapping(self, node, deep=False):
        plain = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=deep) for key in plain]
        assert len(keys) == len(set(keys)), f"duplicate key, {node.start_mark}"
        return super().construct_mapping(node, deep)


def with_component(tmp_path: Path, *components: str) -> list[dict]:
    """Returns the documents of the overlay gpu with more components."""
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = tmp_path / "k8s/overlays/more"
    folder.mkdir()
    added = [f"../../components/{component}" for component in components]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["../gpu"], "components": added}))
    return render(folder)


@pytest.mark.parametrize("path", files("k8s/**/*.yaml", "compose.yaml"), ids=lambda path: path.name)
def test_no_key_is_duplicated(path: Path):
    """No mapping has a duplicate key, whose first value would silently be lost."""
    list(yaml.load_all(path.read_text(), UniqueKeys))


def test_a_duplicate_key_is_found():
    """The loader of the test above finds a duplicate key."""
    with pytest.raises(AssertionError, match="duplicate"):
        yaml.load("a: 1\nb: 2\na: 3\n", UniqueKeys)


def test_references_lead_somewhere(documents):
    """Every referenced ConfigMap, Secret, ServiceAccount and PriorityClass exists and has the referenced key."""
    there = {(d["kind"], d["metadata"]["name"]): d for d in documents}
    kinds = {
        "configMapRef": "ConfigMap",
        "configMapKeyRef": "ConfigMap",
        "secretRef": "Secret",
        "secretKeyRef": "Secret",
    }
    for mapping in walk(documents):
        for field, kind in kinds.items():
            if field in mapping and mapping[field]["name"] not in EXTERNAL:
                target = there[kind, mapping[field]["name"]]
                assert mapping[field].get("key") in (None, *target["data"])
    for deployment in deployments(documents):
        spec = deployment["spec"]["template"]["spec"]
        assert ("serviceAccountName" not in spec) or ("ServiceAccount", spec["serviceAccountName"]) in there
        assert ("priorityClassName" not in spec) or ("PriorityClass", spec["priorityClassName"]) in there


def test_settings_roll_the_pods(overlay):
    """The names of the ConfigMaps contain a hash of their content, so a change restarts the pods."""
    names = [source["configMapRef"]["name"] for c in containers(pod_template(overlay)) for source in c["envFrom"]]
    assert len(names) == 2
    assert all(len(name.rpartition("-")[2]) == 10 for name in names)


def test_selectors_pick_the_pods(documents):
    """Every label selector in the namespace selects existing pods, and no two objects of a kind select the same one."""
    templates = [d["spec"]["template"]["metadata"]["labels"] for d in deployments(documents)]
    selectors = []
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] in (*WORKLOADS, "PodDisruptionBudget", "PodMonitor"):
            selectors.append((document["kind"], spec["selector"]["matchLabels"]))
        elif document["kind"] == "Service":
            selectors.append(("Service", spec["selector"]))
        elif document["kind"] == "NetworkPolicy":
            selectors.append(("NetworkPolicy", spec["podSelector"]["matchLabels"]))
    for deployment in deployments(documents):
        spread = deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        selectors += [("spread", constraint["labelSelector"]["matchLabels"]) for constraint in spread]
    assert len(selectors) >= 2
    for _, selector in selectors:
        assert any(selector.items() <= labels.items() for labels in templates), selector
    for labels in templates:
        kinds = [kind for kind, selector in selectors if selector.items() <= labels.items()]
        assert len(kinds) == len(set(kinds)), f"{kinds} select {labels}"


def test_ports_have_the_names_that_are_used(overlay):
    """The ports of probes, Services, NetworkPolicies and the PodMonitor exist in the containers."""
    named = {}
    for document in overlay:
        if document["kind"] not in WORKLOADS:
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
    numbers = {
        p["containerPort"]
        for d in deployments(overlay)
        for c in containers(d["spec"]["template"])
        for p in c.get("ports", [])
    }
    for policy in (d for d in overlay if d["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= numbers, "a named port doesn't work with every plugin"
    for service in (d for d in overlay if d["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named[service["metadata"]["name"]]
    for monitor in (d for d in overlay if d["kind"] == "PodMonitor"):
        scraped = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        assert scraped & named["hand-counter"] == {"sidecar-http", "worker-http"}


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
    """With pod scope there is exactly one pod for a stream, also during an update, and no autoscaler."""
    documents = render(K8S / "overlays" / name)
    settings = [d for d in documents if d["metadata"]["name"].startswith("sidecar-settings-")]
    if {d["data"].get("SIDECAR_SCOPE", "pod") for d in settings} <= {"pod"}:
        for deployment in deployments(documents):
            if deployment["kind"] == "StatefulSet":
                assert_streams_are_pinned(documents, deployment)
                continue
            assert deployment["spec"]["replicas"] == 1
            assert deployment["spec"]["strategy"] == {"type": "Recreate"}
        assert not {"HorizontalPodAutoscaler", "ScaledObject"} & {d["kind"] for d in documents}


def assert_streams_are_pinned(documents: list[dict], stateful_set: dict) -> None:
    """Each pod reads its share, and the pods have all shares: so each stream goes to one pod."""
    (settings,) = (d["data"] for d in documents if d["metadata"]["name"].startswith("worker-settings-"))
    number, replicas = int(settings["WORKER_PARTITIONS"]), stateful_set["spec"]["replicas"]
    assert settings["WORKER_OWN"] == f"host/{replicas}"
    name = stateful_set["metadata"]["name"]
    shares = [parse_share(settings["WORKER_OWN"], f"{name}-{i}").partitions(number) for i in range(replicas)]
    assert sorted(each for share in shares for each in share) == list(range(number))


@pytest.mark.parametrize("name", SCALING_OVERLAYS)
def test_scaling_brings_fleet_scope(name):
    """An overlay that scales the workers renders as it is, in fleet scope, and leaves the replicas to the autoscaler."""
    documents = render(K8S / "overlays" / name)
    assert {"HorizontalPodAutoscaler", "ScaledObject"} & {d["kind"] for d in documents}
    (settings,) = (d for d in documents if d["metadata"]["name"].startswith("sidecar-settings-"))
    assert settings["data"]["SIDECAR_SCOPE"] == "fleet"
    deployment = one(documents, "Deployment")["spec"]
    assert "replicas" not in deployment, "the autoscaler and the manifest would both set the replicas"
    assert deployment["strategy"]["type"] == "RollingUpdate"


def test_each_shard_has_its_own_queue_and_label():
    """The shards' pods differ in their label and in their queue, and share one PodMonitor and one set of alerts."""
    documents = render(K8S / "overlays/shards")
    shards = {d["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/instance"] for d in deployments(documents)}
    prefixes = {d["data"]["WORKER_PREFIX"] for d in documents if d["metadata"]["name"].startswith("worker-settings-")}
    assert len(shards) == len(deployments(documents)) >= 2
    assert prefixes == shards
    assert len([d for d in documents if d["kind"] in ("PodMonitor", "PrometheusRule", "PriorityClass")]) == 3
    for endpoint in one(documents, "PodMonitor")["spec"]["podMetricsEndpoints"]:
        assert [r["targetLabel"] for r in endpoint["relabelings"]] == ["shard"]


@pytest.mark.parametrize("name", ["gpu", "shards"])
def test_the_gpu_runs_hamer(name):
    """A pod that asks for a GPU runs HaMeR on it, with the checkpoint of a volume, and finds a node that has one."""
    documents = render(K8S / "overlays" / name)
    for settings in (d for d in documents if d["metadata"]["name"].startswith("worker-settings-")):
        assert settings["data"]["WORKER_BACKEND"] == "hamer"
        checkpoint = settings["data"]["WORKER_HAMER_CHECKPOINT"]
    for deployment in deployments(documents):
        spec = deployment["spec"]["template"]["spec"]
        (worker,) = spec["containers"]
        (mount,) = (mount for mount in worker["volumeMounts"] if checkpoint.startswith(mount["mountPath"] + "/"))
        (volume,) = (volume for volume in spec["volumes"] if volume["name"] == mount["name"])
        assert volume["persistentVolumeClaim"] == {"claimName": "hand-counter-weights", "readOnly": True}
        assert spec["nodeSelector"]
        assert spec["runtimeClassName"]
        assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu"]
        (worker,) = spec["containers"]
        assert {"name": "cache", "mountPath": "/cache"} in worker["volumeMounts"]
        assert (worker["livenessProbe"]["httpGet"]["path"], worker["readinessProbe"]["httpGet"]["path"]) == (
            "/livez",
            "/healthz",
        )


def test_more_cameras_have_names_of_their_own(tmp_path):
    """A copy of the overlay with the lines that it names for that: no object selects the pods of the other."""
    shutil.copytree(K8S, tmp_path / "k8s")
    shutil.copytree(K8S / "overlays/cameras", tmp_path / "k8s/overlays/north")
    path = tmp_path / "k8s/overlays/north/kustomization.yaml"
    overlay = path.read_text()
    (named,) = re.findall(r"by these lines\.\n((?:# {3}.*\n)+)", overlay)
    path.write_text(overlay + named.replace("#   ", ""))
    own, copied = (
        render(folder / "overlays" / name) for folder, name in ((K8S, "cameras"), (path.parents[2], "north"))
    )
    assert [d["metadata"]["name"] + "-north" for d in own] == [d["metadata"]["name"] for d in copied]
    (old, new), (old_policy, new_policy) = (
        [one(documents, kind)["spec"] for documents in (own, copied)] for kind in ("Deployment", "NetworkPolicy")
    )
    for selector in (new["selector"], new_policy["podSelector"]):
        assert selector["matchLabels"].items() <= new["template"]["metadata"]["labels"].items()
        assert not selector["matchLabels"].items() <= old["template"]["metadata"]["labels"].items()
    assert new_policy["egress"] == old_policy["egress"]


def test_a_private_ca_of_redis_is_mounted(tmp_path, monkeypatch):
    """With the component redis-ca both programs verify Redis with the certificate of a ConfigMap."""
    documents = with_component(tmp_path, "redis-ca")
    settings = [d["data"] for d in documents if "-settings-" in d["metadata"]["name"]]
    paths = {value for data in settings for name, value in data.items() if name.endswith("_REDIS_CA")}
    assert paths == {"/etc/hand-counter/redis-ca/ca.crt"}
    assert len([data for data in settings if any(name.endswith("_REDIS_CA") for name in data)]) == 2
    for container in containers(pod_template(documents)):
        assert "/etc/hand-counter/redis-ca" in [mount["mountPath"] for mount in container["volumeMounts"]]
    (volume,) = (v for v in pod_template(documents)["spec"]["volumes"] if v["name"] == "redis-ca")
    assert volume["configMap"]["name"] == "hand-counter-redis-ca"


def test_dns_is_reachable_through_the_node(documents):
    """Pods that may send only to some addresses reach the cluster's DNS and a node-local one."""
    resolving = [d for d in documents if d["kind"] == "NetworkPolicy" and d["spec"].get("egress")]
    assert resolving
    for policy in resolving:
        to = [
            target
            for rule in policy["spec"]["egress"]
            if {"port": 53, "protocol": "UDP"} in rule["ports"]
            for target in rule["to"]
        ]
        assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in to
        assert len(to) == 2
