"""The pod runner rejects what a cluster would reject, and never ignores an unknown field."""

import copy

import pytest
from podrun.cluster import Cluster
from podrun.manifest import Manifests, PodSpec
from podrun.mounted_files import MountedFiles
from podrun.reading import ManifestError, quantity
from podrun.volumes import EmptyDir, FileVolume

CONTAINER = {
    "name": "main",
    "image": "image:1",
    "env": [
        {"name": "PLAIN", "value": "1"},
        {"name": "BUILT", "value": "$(PLAIN)/$(UNKNOWN)"},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "password"}}},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ],
    "envFrom": [{"configMapRef": {"name": "settings"}}],
    "ports": [{"name": "http", "containerPort": 80}],
    "readinessProbe": {"httpGet": {"port": "http", "path": "/ready"}, "periodSeconds": 2},
    "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
}
DOCUMENTS = [
    {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"PLAIN": "0", "FROM": "map"}},
    {"kind": "Secret", "metadata": {"name": "secret"}, "data": {"password": "eA=="}},
    {
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": "space"},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {
                    "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
                    "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}],
                    "initContainers": [{"name": "side", "image": "image:1", "restartPolicy": "Always"}],
                    "containers": [CONTAINER],
                },
            },
        },
    },
    {
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "space"},
        "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http"}]},
    },
]


@pytest.fixture
def documents() -> list:
    """Returns manifests that a test may change."""
    return copy.deepcopy(DOCUMENTS)


def pod(documents: list) -> PodSpec:
    """Returns the only pod."""
    (spec,) = Manifests(documents).pods()
    return spec


def test_everything_in_the_manifest_arrives(documents: list):
    """References are resolved, a later variable wins, limits become bytes, and ports get their numbers."""
    spec = pod(documents)
    (container,) = spec.main
    assert dict(container.env) == {
        "PLAIN": "1",
        "FROM": "map",
        "BUILT": "1/$(UNKNOWN)",
        "PASSWORD": "x",
        "ADDRESS": "$(POD_IP)",
    }
    assert (container.memory, container.cpus, container.user, container.fs_group) == (64 * 2**20, 0.5, "1000", "2000")
    assert container.probes["readinessProbe"].port == 80
    assert container.probes["readinessProbe"].period == 2
    assert spec.volumes == {"data": EmptyDir(2**20)}
    assert [c.keeps_running for c in spec.init] == [True]


@pytest.mark.parametrize(
    ("place", "mistake", "message"),
    [
        ([], {"hostNetwork": True}, "doesn't know hostNetwork"),
        (["securityContext"], {"runAsNonRoot": True, "runAsUser": 0}, "no runAsUser"),
        (["volumes", 0], {"hostPath": {}}, "doesn't know hostPath"),
        (["volumes"], [{"name": "data", "configMap": {"name": "other"}}], "there is no ConfigMap other"),
        (
            ["volumes"],
            [{"name": "data", "secret": {"secretName": "secret", "items": [{"key": "user", "path": "u"}]}}],
            "no key user",
        ),
        (["volumes"], [{"name": "data", "projected": {"sources": [{"downwardAPI": {}}]}}], "doesn't know downwardAPI"),
        (["containers", 0], {"lifecycle": {}}, "doesn't know lifecycle"),
        (["containers", 0, "readinessProbe"], {"terminationGracePeriodSeconds": 1}, "doesn't know terminationGrace"),
        (["containers", 0, "readinessProbe", "httpGet"], {"port": "metrics"}, "has no port metrics"),
        (["containers", 0, "readinessProbe", "httpGet"], {"port": 81}, "doesn't declare port 81"),
        (["containers", 0, "envFrom", 0, "configMapRef"], {"name": "other"}, "no ConfigMap other"),
        (["containers", 0, "env", 2, "valueFrom", "secretKeyRef"], {"key": "user"}, "has no key user"),
        (["containers", 0, "volumeMounts", 0], {"name": "socket"}, "no volume socket"),
        (["containers", 0, "resources", "limits"], {"memory": "64MB"}, "not a quantity"),
        (["initContainers", 0], {"restartPolicy": "Never", "livenessProbe": {"exec": {}}}, "only a native sidecar"),
    ],
)
def test_a_mistake_is_named(documents: list, place: list, mistake: dict | list, message: str):
    """Each mistake in a manifest raises an error that names it."""
    node = documents[2]["spec"]["template"]["spec"]
    for step in place:
        node = node[step]
    if isinstance(mistake, list):
        node[:] = mistake
    else:
        node.update(mistake)
    with pytest.raises(ManifestError, match=message):
        pod(documents)


def test_files_come_from_config_maps_and_secrets(documents: list, tmp_path):
    """Under their keys or other names; what is optional may be missing. They are replaced together, by one link."""
    sources = [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "secret", "items": [{"key": "password", "path": "door"}]}},
        {"secret": {"name": "other", "optional": True}},
    ]
    volumes = [{"name": "data", "projected": {"defaultMode": 0o440, "sources": sources}}]
    documents[2]["spec"]["template"]["spec"]["volumes"] = volumes
    volume = pod(documents).volumes["data"]
    assert isinstance(volume, FileVolume)
    manifests = Manifests(documents)
    assert volume.content("here", manifests.config) == {"PLAIN": "0", "FROM": "map", "door": "x"}

    files = MountedFiles(tmp_path / "data", 0o400, None)
    files.write(volume.content("here", manifests.config))
    before = (tmp_path / "data/..data").resolve()
    manifests.configure([{"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"PLAIN": "1"}}])
    for _ in range(2):
        files.write(volume.content("here", manifests.config))
    assert {
        path.name: path.read_text() for path in (tmp_path / "data").iterdir() if not path.name.startswith("..")
    } == {
        "PLAIN": "1",
        "door": "x",
    }
    assert (tmp_path / "data/PLAIN").stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "data/PLAIN").resolve().parent == (tmp_path / "data/..data").resolve() != before
    assert not before.exists()


def test_each_replica_is_a_pod(documents: list):
    """Its name ends with its number, which is also its host name."""
    documents[2]["spec"]["replicas"] = 2
    assert list(Cluster(documents).pods) == ["app-0", "app-1"]


def test_a_selector_has_to_pick_its_own_pods(documents: list):
    """A Deployment whose selector doesn't match its template is an error, and so is a Service without pods."""
    documents[2]["spec"]["selector"]["matchLabels"] = {"app": "b"}
    with pytest.raises(ManifestError, match="doesn't pick"):
        Manifests(documents).pods()
    documents[2]["spec"]["selector"]["matchLabels"] = {"app": "a"}
    documents[3]["spec"]["selector"] = {"app": "c"}
    with pytest.raises(ManifestError, match="no pod has the labels"):
        Cluster(documents)


def test_quantities_are_numbers():
    """Decimal and binary suffixes are distinguished."""
    assert [quantity(text) for text in ("250m", "2", "1k", "64Mi", "1Gi")] == [0.25, 2, 1000, 2**26, 2**30]
