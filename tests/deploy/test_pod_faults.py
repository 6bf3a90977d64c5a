"""Pods that can't work, run on a real engine: each says what is wrong, where an operator looks."""

import copy

import pytest
from deploy_helpers import K8S, containers, needs_engine, pod_template, render
from podrun.cluster import Cluster, NotReadyError
from podrun.network import Network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(200),
    needs_engine,
]


@pytest.fixture(scope="module")
def rendered() -> list:
    """The overlay dev without its camera."""
    return [d for d in render(K8S / "overlays/dev") if d["metadata"]["name"] != "camera"]


@pytest.fixture
def documents(rendered: list) -> list:
    """A copy to be broken."""
    return copy.deepcopy(rendered)


def only_pod(documents: list) -> list:
    """Without the Valkey, too."""
    return [d for d in documents if d["metadata"]["name"] != "valkey"]


def test_too_little_memory_ends_one_container_only(documents: list):
    """A worker that runs out of memory is killed and named; its sidecar goes on, and the pod is not ready."""
    _, worker = containers(pod_template(documents))
    worker["resources"]["limits"]["memory"] = "48Mi"
    with Cluster(only_pod(documents), network=Network("hcfault", "10.213.78")) as cluster:
        with pytest.raises(NotReadyError) as raised:
            cluster.wait_ready(8)
        pod = cluster.pods["hand-counter"]
        assert pod.containers["worker"].exits[0] == (137, True)
        assert "worker: ended with exit code 137, out of memory" in str(raised.value)
        assert pod.containers["sidecar"].restarts == 0
        assert pod.containers["sidecar"].ready


def test_a_wrong_socket_path_fails_the_probe(documents: list):
    """A sidecar that can't make its socket never passes its startup probe, so the worker isn't started; the log says why."""
    sidecar, _ = containers(pod_template(documents))
    (listen,) = (entry for entry in sidecar["env"] if entry["name"] == "SIDECAR_LISTEN")
    listen["value"] = "unix:/run/nowhere/sidecar.sock"
    with Cluster(only_pod(documents), network=Network("hcfault", "10.213.78")) as cluster:
        with pytest.raises(NotReadyError) as raised:
            cluster.wait_ready(6)
        explained = str(raised.value)
        assert "fps-sidecar: can't listen on unix:/run/nowhere/sidecar.sock" in explained
        assert "sidecar: ended with exit code 1" in explained
        assert "worker" not in cluster.pods["hand-counter"].containers


def test_a_setting_that_makes_no_sense_is_named(documents: list):
    """A typo in the settings ends the sidecar with one line that names the variable and the value."""
    (settings,) = (d for d in documents if d["metadata"]["name"].startswith("sidecar-settings-"))
    settings["data"]["SIDECAR_FPS"] = "one"
    with Cluster(only_pod(documents), network=Network("hcfault", "10.213.78")) as cluster:
        with pytest.raises(NotReadyError) as raised:
            cluster.wait_ready(4)
        assert "ended with exit code 2" in str(raised.value)
        assert "SIDECAR_FPS" in str(raised.value)
        assert "'one'" in str(raised.value)
