"""The variables in the manifests are settings of the programs, with values that fit each other and the pod."""

import os
import re
from pathlib import Path

import pytest
from podrun.manifest import Manifests
from podrun.reading import quantity
from pydantic_settings import BaseSettings
from support.deploy import (
    K8S,
    LOGINS,
    compose_services,
    containers,
    deployments,
    pod_template,
    render,
)

from sidecar.settings import SidecarSettings
from worker.publish.cameras_file import read_cameras
from worker.publish.ingest_settings import IngestSettings
from worker.publish.settings import PublishSettings
from worker.run_settings import RunSettings

MARGIN_S = 5.0
"""The margin for stopping, in addition to the grace periods of both programs."""


def test_each_camera_has_its_own_secret(tmp_path, monkeypatch):
    """Passwords come from the cameras' own Secrets, mounted where cameras.yaml looks for them; the list is valid."""
    documents = render(K8S / "overlays/cameras")
    (deployment,) = deployments(documents)
    template = deployment["spec"]["template"]
    ingest, sidecar = (
        next(each for each in containers(template) if each["name"] == name) for name in ("ingest", "sidecar")
    )
    listens = {entry["name"]: entry.get("value") for entry in sidecar["env"]}
    assert_known(listens, SidecarSettings)
    environment = {entry["name"]: entry.get("value") or "rediss://r:1/0" for entry in ingest["env"]}
    assert_known(environment, IngestSettings)
    assert environment["WORKER_SIDECAR"] == listens["SIDECAR_LISTEN"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command, path = ingest["args"]
    assert (command, IngestSettings(cameras=path).http) == ("ingest", "0.0.0.0:9466")

    places = {mount["name"]: tmp_path / mount["mountPath"].strip("/") for mount in ingest["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    (listing,) = (d for d in documents if d["kind"] == "ConfigMap")
    assert volumes["cameras"]["configMap"]["name"] == listing["metadata"]["name"]
    places["cameras"].mkdir(parents=True)
    for name, text in listing["data"].items():
        (places["cameras"] / name).write_text(text)
    cameras = read_cameras(tmp_path / path.strip("/"), {}).cameras
    mounted = {
        places["passwords"] / item["path"]: (source["secret"]["name"], source["secret"]["optional"], item["key"])
        for source in volumes["passwords"]["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    wanted = {
        Path(os.path.normpath(camera.source.password_file)): (f"camera-{camera.stream_name}", True, "password")
        for camera in cameras
    }
    assert mounted == wanted
    assert sorted(camera.stream_name for camera in cameras) == ["door", "yard"]


def settings_of(documents, monkeypatch) -> tuple[SidecarSettings, RunSettings]:
    """Returns the settings of both programs for the environment in the manifests."""
    secrets = [
        {"kind": "Secret", "metadata": {"name": name}, "stringData": {"url": f"rediss://{name}:x@r:1/0"}}
        for name in LOGINS
    ]
    if not any(d["kind"] == "Secret" for d in documents):
        documents = [*documents, *secrets]
    kinds = ("ConfigMap", "Secret")
    (template,) = (each for each in deployments(documents) if each["metadata"]["name"] == "hand-counter")
    manifests = Manifests([template, *(d for d in documents if d["kind"] in kinds)])
    made = []
    for raw, settings in zip(containers(template["spec"]["template"]), (SidecarSettings, RunSettings), strict=True):
        environment = manifests._environment(raw["name"], raw, {})
        assert_known(environment, settings)
        with monkeypatch.context() as patch:
            patch.setattr("socket.gethostname", lambda: "hand-counter-1")  # as the pods of a StatefulSet are called
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


def substituted(value: str, given: dict[str, str]) -> str:
    """Returns a value of the compose file with its variables, given or by default."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1], found[2]), value)


@pytest.mark.parametrize("given", [{}, {"PARTITIONS": "4", "OWN": "0/2"}], ids=["alone", "partitions"])
def test_compose_gives_settings_that_the_programs_know(monkeypatch, given: dict[str, str]):
    """Each variable in the compose file is a setting of its program with a valid value."""
    services = compose_services()
    programs = {
        "sidecar": SidecarSettings,
        "worker": RunSettings,
        "publisher": PublishSettings,
        "cameras": IngestSettings,
    }
    arguments = {"publisher": {"source": "0", "stream_name": "cam1"}, "cameras": {"cameras": "cameras.yaml"}}
    if given:
        programs["worker-1"] = RunSettings
    made = {}
    for name, settings in programs.items():
        environment = services[name]["environment"]
        assert_known(environment, settings)
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, substituted(value, given))
            made[name] = settings(**arguments.get(name, {}))
    workers = [made[name].options.queue for name in made if name.startswith("worker")]
    number = made["publisher"].options.destination.partitions.number
    assert made["cameras"].destination.partitions.number == number
    read = [each for queue in workers for each in queue.share.partitions(queue.partitions.number)]
    assert sorted(read) == list(range(number))
