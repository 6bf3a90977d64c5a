"""The console in a cluster: the component with an overlay, and compose."""

import shutil
from pathlib import Path

import pytest
import yaml
from support.deploy import K8S, compose_services, containers, one, pod_template, render
from support.processes.programs import REPOSITORY

from console.web.settings import ConsoleSettings
from sidecar.settings import SidecarSettings


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The overlay gpu with the console."""
    folder = tmp_path_factory.mktemp("overlay") / "k8s"
    shutil.copytree(K8S, folder)
    added = {"resources": ["../gpu"], "components": ["../../components/console"]}
    (folder / "overlays/more").mkdir()
    (folder / "overlays/more/kustomization.yaml").write_text(yaml.safe_dump(added))
    return render(folder / "overlays/more")


def test_it_is_a_deployment_behind_a_service_without_an_ingress(documents: list[dict]):
    assert "Ingress" not in {document["kind"] for document in documents}
    (container,) = containers(pod_template(documents, "console"))
    (port,) = one(documents, "Service", "console")["spec"]["ports"]
    assert port["targetPort"] in [each["name"] for each in container["ports"]]
    assert container["command"] == ["python", "-m", "console.web"]


def test_its_settings_are_valid_and_demand_a_token(
    documents: list[dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (container,) = containers(pod_template(documents, "console"))
    environment = {entry["name"]: entry.get("value", "redis://console:x@r:1/0") for entry in container["env"]}
    for name, value in environment.items():
        if name.endswith("_TOKEN_FILE"):
            (tmp_path / "token").write_text("x" * 16)
            (mount,) = container["volumeMounts"]
            assert value.startswith(mount["mountPath"] + "/")
            monkeypatch.setenv(name, str(tmp_path / "token"))
        else:
            monkeypatch.setenv(name, value)
    assert set(environment) <= {f"CONSOLE_{field.upper()}" for field in ConsoleSettings.model_fields}
    settings = ConsoleSettings()
    assert settings.allow_changes
    monkeypatch.delenv("CONSOLE_OPERATOR_TOKEN_FILE")
    monkeypatch.delenv("CONSOLE_VIEWER_TOKEN_FILE")
    with pytest.raises(ValueError, match="beyond this machine"):
        ConsoleSettings()


def test_only_the_console_may_ask_the_sidecars_over_the_network(documents: list[dict], monkeypatch: pytest.MonkeyPatch):
    sidecar, _ = containers(pod_template(documents))
    environment = {entry["name"]: entry.get("value", "redis://s:x@r:1/0") for entry in sidecar["env"]}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert SidecarSettings().listen == ["unix:/run/hand-counter/sidecar.sock", "0.0.0.0:50051"]
    policy = one(documents, "NetworkPolicy", "hand-counter")["spec"]["ingress"]
    (rule,) = (each for each in policy if 50051 in [port["port"] for port in each["ports"]])
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "console"}}}]
    service = one(documents, "Service", "hand-counter-sidecars")["spec"]
    assert service["clusterIP"] == "None"
    (console,) = containers(pod_template(documents, "console"))
    asked = {entry["name"]: entry.get("value") for entry in console["env"]}["CONSOLE_SIDECAR"]
    assert asked == f"hand-counter-sidecars:{service['ports'][0]['port']}"
    assert service["ports"][0]["targetPort"] in [port["name"] for port in sidecar["ports"]]
    egress = one(documents, "NetworkPolicy", "console")["spec"]["egress"]
    assert [port["port"] for each in egress for port in each["ports"]] == [53, 53, 50051]


def test_compose_serves_it_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    services = compose_services()
    console = services["console"]
    assert all(port.startswith("127.0.0.1:") for port in console["ports"])
    assert console["image"] == services["sidecar"]["image"]
    assert console["profiles"] == ["console"]
    (tmp_path / "token").write_text("x" * 16)
    for name, value in console["environment"].items():
        monkeypatch.setenv(name, str(tmp_path / "token") if name.endswith("_TOKEN_FILE") else value)
    assert ConsoleSettings().redis.username == "hand-counter-console"
    command = " ".join(services["redis"]["command"])
    page = (REPOSITORY / "docs/redis-acl.md").read_text()
    (documented,) = (line for line in page.splitlines() if line.startswith("ACL SETUSER hand-counter-console on"))
    assert f"--user hand-counter-console on nopass {' '.join(documented.split()[5:])}" in command
