"""The pod runner refuses what a cluster would refuse, and ignores nothing that it doesn't know."""

import copy

import pytest
from podrun.cluster import Cluster
from podrun.manifest import ManifestError, Manifests, PodSpec, quantity

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
    """Manifests to be changed."""
    return copy.deepcopy(DOCUMENTS)


def pod(documents: list) -> PodSpec:
    """The only pod."""
    (spec,) = Manifests(documents).pods()
    return spec


def test_everything_in_the_manifest_arrives(documents: list):
    """References are followed, a later variable wins, limits become bytes, ports get their numbers."""
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
    assert spec.volumes == {"data": 2**20}
    assert [c.keeps_running for c in spec.init] == [True]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda pod, main: pod.update(hostNetwork=True), "doesn't know hostNetwork"),
        (lambda pod, main: main.update(lifecycle={}), "doesn't know lifecycle"),
        (lambda pod, main: main["readinessProbe"].update(terminationGracePeriodSeconds=1), "doesn't know termination"),
        (lambda pod, main: main["readinessProbe"]["httpGet"].update(port="metrics"), "has no port metrics"),
        (lambda pod, main: main["readinessProbe"]["httpGet"].update(port=81), "doesn't declare port 81"),
        (lambda pod, main: main["envFrom"][0]["configMapRef"].update(name="other"), "no ConfigMap other"),
        (lambda pod, main: main["env"][2]["valueFrom"]["secretKeyRef"].update(key="user"), "has no key user"),
        (lambda pod, main: main["volumeMounts"][0].update(name="socket"), "no volume socket"),
        (lambda pod, main: pod["volumes"][0].update(hostPath={}), "doesn't know hostPath"),
        (lambda pod, main: pod["securityContext"].update(runAsNonRoot=True, runAsUser=0), "no runAsUser"),
        (lambda pod, main: main["resources"]["limits"].update(memory="64MB"), "not a quantity"),
        (lambda pod, main: pod["initContainers"][0].pop("restartPolicy") and None, ""),
    ],
)
def test_what_is_wrong_is_told(documents: list, change, told: str):
    """Each mistake in a manifest is an error that names it; a correct change is none."""
    template = documents[2]["spec"]["template"]["spec"]
    change(template, template["containers"][0])
    if not told:
        assert not pod(documents).init[0].keeps_running
        return
    with pytest.raises(ManifestError, match=told):
        pod(documents)


def test_a_selector_has_to_pick_its_own_pods(documents: list):
    """A Deployment whose selector doesn't match its template, and a Service without pods, are errors."""
    documents[2]["spec"]["selector"]["matchLabels"] = {"app": "b"}
    with pytest.raises(ManifestError, match="doesn't pick"):
        Manifests(documents).pods()
    documents[2]["spec"]["selector"]["matchLabels"] = {"app": "a"}
    documents[3]["spec"]["selector"] = {"app": "c"}
    with pytest.raises(ManifestError, match="no pod has the labels"):
        Cluster(documents)


def test_quantities_are_numbers():
    """Suffixes of a thousand and of 1024 are told apart."""
    assert [quantity(text) for text in ("250m", "2", "1k", "64Mi", "1Gi")] == [0.25, 2, 1000, 2**26, 2**30]
