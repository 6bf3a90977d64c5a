"""Runs broken pods on a real engine: each says what is wrong in a place where operators look."""

import contextlib
import copy
from collections.abc import Iterator

import pytest
from podrun.cluster import Cluster
from podrun.kubelet import Pod
from podrun.network import Network
from support.deploy import K8S, containers, needs_engine, pod_template, render
from support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    needs_engine,
]


@pytest.fixture(scope="module")
def rendered() -> list:
    """Returns the overlay dev without its camera."""
    return [d for d in render(K8S / "overlays/dev") if d["metadata"]["name"] != "camera"]


@pytest.fixture
def documents(rendered: list) -> list:
    """Returns a copy that a test may break."""
    return copy.deepcopy(rendered)


@contextlib.contextmanager
def started(documents: list) -> Iterator[Pod]:
    """Starts the pod of the worker without a Valkey."""
    alone = [d for d in documents if d["metadata"]["name"] != "valkey"]
    with Cluster(alone, network=Network("hcfault", "10.213.78")) as cluster:
        yield cluster.pods["hand-counter"]


def ended(pod: Pod, container: str) -> list[tuple[int, bool]]:
    """Returns the ends of a container so far: exit codes, and whether it ran out of memory."""
    return pod.containers[container].exits if container in pod.containers else []


def test_too_little_memory_ends_one_container_only(documents: list):
    """A worker that runs out of memory is killed and named; its sidecar continues, and the pod is not ready."""
    _, worker = containers(pod_template(documents))
    worker["resources"]["limits"]["memory"] = "48Mi"
    with started(documents) as pod:
        wait_until(lambda: ended(pod, "worker"), "the worker runs out of memory")
        assert ended(pod, "worker")[0] == (137, True)
        assert "worker: ended with exit code 137, out of memory" in pod.explain()
        assert not pod.ready
        assert ended(pod, "sidecar") == []
        wait_until(lambda: pod.containers["sidecar"].ready, "the sidecar is ready")


def test_a_wrong_socket_path_fails_the_probe(documents: list):
    """A sidecar that can't create its socket never passes its startup probe, so the worker doesn't start; the log says why."""
    sidecar, _ = containers(pod_template(documents))
    (listen,) = (entry for entry in sidecar["env"] if entry["name"] == "SIDECAR_LISTEN")
    listen["value"] = "unix:/run/nowhere/sidecar.sock"
    with started(documents) as pod:
        wait_until(lambda: any("back-off" in text for text in pod.events.texts("sidecar")), "a back-off")
        assert {code for code, _ in ended(pod, "sidecar")} == {1}
        assert "fps-sidecar: can't listen on unix:/run/nowhere/sidecar.sock" in pod.explain()
        assert "worker" not in pod.containers


def test_an_invalid_setting_is_named(documents: list):
    """A typo in the settings ends the sidecar with one line that names the variable and the value."""
    (settings,) = (d for d in documents if d["metadata"]["name"].startswith("sidecar-settings-"))
    settings["data"]["SIDECAR_FPS"] = "one"
    with started(documents) as pod:
        wait_until(lambda: ended(pod, "sidecar"), "the sidecar exits")
        assert ended(pod, "sidecar")[0] == (2, False)
        (line,) = {line for line in pod.containers["sidecar"].logs().splitlines() if line}
        assert "SIDECAR_FPS" in line
        assert "'one'" in line
