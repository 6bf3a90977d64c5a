"""Turns rendered manifests into pods: plain values, with every reference resolved. Pure.

Raises :class:`ManifestError` for anything that a cluster would reject or a kubelet couldn't start, and for any field
that the runner doesn't know, so that nothing in a manifest is silently ignored.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from podrun.reading import ManifestError, known, quantity
from podrun.volumes import FileVolume, Volume, parse_volume

# Fields that affect where a pod runs or what it may ask of the cluster, but not how it runs on a node.
SCHEDULING = {
    "serviceAccountName",
    "automountServiceAccountToken",
    "topologySpreadConstraints",
    "tolerations",
    "priorityClassName",
    "enableServiceLinks",
}
POD_FIELDS = {
    "containers",
    "initContainers",
    "volumes",
    "securityContext",
    "terminationGracePeriodSeconds",
    *SCHEDULING,
}
CONTAINER_FIELDS = {
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "env",
    "envFrom",
    "ports",
    "restartPolicy",
    "startupProbe",
    "livenessProbe",
    "readinessProbe",
    "resources",
    "securityContext",
    "volumeMounts",
}
PROBE_FIELDS = {
    "grpc",
    "httpGet",
    "tcpSocket",
    "exec",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "failureThreshold",
    "successThreshold",
}


@dataclass(frozen=True)
class Probe:
    """One probe: its method and timing. Times in seconds."""

    kind: str
    """grpc, httpGet, tcpSocket or exec."""
    port: int
    path: str
    service: str
    command: tuple[str, ...]
    delay: float
    period: float
    timeout: float
    failures: int


@dataclass(frozen=True)
class Mount:
    """A volume at a path."""

    volume: str
    path: str
    read_only: bool


@dataclass(frozen=True)
class Container:
    """What an engine needs to start a container; the environment may still contain $(POD_IP)."""

    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    ports: Mapping[str, int]
    probes: Mapping[str, Probe]
    """By field name: startupProbe, livenessProbe, readinessProbe."""
    memory: int | None
    """Bytes."""
    cpus: float | None
    user: str | None
    group: str | None
    fs_group: str | None
    read_only: bool
    no_new_privileges: bool
    dropped: tuple[str, ...]
    keeps_running: bool
    """Whether it is restarted after it ended."""


@dataclass(frozen=True)
class PodSpec:
    """One pod of a workload."""

    workload: str
    """The name of the Deployment or StatefulSet."""
    name: str
    namespace: str
    labels: Mapping[str, str]
    init: tuple[Container, ...]
    main: tuple[Container, ...]
    volumes: Mapping[str, Volume]
    fs_group: str | None
    grace: float


@dataclass(frozen=True)
class Service:
    """A name for the pods that match its selector."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    ports: Mapping[int, str | int]


@dataclass
class Manifests:
    """All documents of one rendered overlay."""

    documents: list[dict[str, Any]]
    config: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.configure(self.documents)

    def configure(self, documents: Iterable[dict[str, Any]]) -> None:
        """Takes the ConfigMaps and Secrets among these documents, in place of those of the same name."""
        for document in documents:
            name = document["metadata"]["name"]
            if document["kind"] == "ConfigMap":
                self.config["ConfigMap", name] = dict(document.get("data", {}))
            elif document["kind"] == "Secret":
                data = {key: base64.b64decode(value).decode() for key, value in document.get("data", {}).items()}
                self.config["Secret", name] = data | dict(document.get("stringData", {}))

    def services(self) -> list[Service]:
        """Returns the Services."""
        return [
            Service(
                document["metadata"]["name"],
                document["metadata"].get("namespace", "default"),
                document["spec"]["selector"],
                {port["port"]: port.get("targetPort", port["port"]) for port in document["spec"]["ports"]},
            )
            for document in self.documents
            if document["kind"] == "Service"
        ]

    def pods(self) -> list[PodSpec]:
        """Returns one pod for each replica of each Deployment."""
        specs = []
        for document in self.documents:
            if document["kind"] not in ("Deployment", "StatefulSet"):
                continue
            specs += [self._pod(document, index) for index in range(document["spec"].get("replicas", 1))]
        return specs

    def _pod(self, document: dict[str, Any], index: int) -> PodSpec:
        name, template = f"{document['metadata']['name']}-{index}", document["spec"]["template"]
        namespace = document["metadata"].get("namespace", "default")
        labels = template["metadata"].get("labels", {})
        chosen = document["spec"]["selector"]["matchLabels"]
        if not chosen.items() <= labels.items():
            raise ManifestError(f"{name}: the selector {chosen} doesn't pick its own pods, {labels}")
        spec = template["spec"]
        known(name, spec, POD_FIELDS)
        volumes = {
            volume["name"]: parse_volume(f"{name}, volume {volume['name']}", volume)
            for volume in spec.get("volumes", [])
        }
        for volume_name, volume in volumes.items():
            if isinstance(volume, FileVolume):
                volume.content(f"{name}, volume {volume_name}", self.config)
        context = spec.get("securityContext", {})
        fields = {"metadata.name": name, "metadata.namespace": namespace, "status.podIP": "$(POD_IP)"}
        make = [
            [self._container(name, container, context, volumes, fields) for container in spec.get(key, [])]
            for key in ("initContainers", "containers")
        ]
        for container, raw in zip(make[0], spec.get("initContainers", []), strict=True):
            if raw.get("restartPolicy") != "Always" and container.probes:
                raise ManifestError(f"{name}, {container.name}: only a native sidecar may have probes")
        return PodSpec(
            document["metadata"]["name"],
            name,
            namespace,
            labels,
            tuple(make[0]),
            tuple(make[1]),
            volumes,
            _text(context.get("fsGroup")),
            float(spec.get("terminationGracePeriodSeconds", 30)),
        )

    def _container(
        self,
        pod: str,
        raw: dict[str, Any],
        pod_context: dict[str, Any],
        volumes: Mapping[str, object],
        fields: Mapping[str, str],
    ) -> Container:
        where = f"{pod}, {raw['name']}"
        known(where, raw, CONTAINER_FIELDS)
        context = {**pod_context, **raw.get("securityContext", {})}
        if context.get("runAsNonRoot") and context.get("runAsUser", 0) == 0:
            raise ManifestError(f"{where}: runAsNonRoot, but no runAsUser")
        mounts = []
        for mount in raw.get("volumeMounts", []):
            known(f"{where}, mount", mount, {"name", "mountPath", "readOnly"})
            if mount["name"] not in volumes:
                raise ManifestError(f"{where}: there is no volume {mount['name']}")
            mounts.append(Mount(mount["name"], mount["mountPath"], mount.get("readOnly", False)))
        ports = {port.get("name", str(port["containerPort"])): port["containerPort"] for port in raw.get("ports", [])}
        limits = raw.get("resources", {}).get("limits", {})
        probes: dict[str, Probe] = {
            kind: _probe(f"{where}, {kind}", raw[kind], ports)
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
            if kind in raw
        }
        return Container(
            raw["name"],
            raw["image"],
            tuple(raw.get("command", [])),
            tuple(raw.get("args", [])),
            self._environment(where, raw, fields),
            tuple(mounts),
            ports,
            probes,
            int(quantity(limits["memory"])) if "memory" in limits else None,
            quantity(limits["cpu"]) if "cpu" in limits else None,
            _text(context.get("runAsUser")),
            _text(context.get("runAsGroup")),
            _text(context.get("fsGroup")),
            context.get("readOnlyRootFilesystem", False),
            context.get("allowPrivilegeEscalation") is False,
            tuple(context.get("capabilities", {}).get("drop", [])),
            raw.get("restartPolicy") == "Always",
        )

    def _environment(self, where: str, raw: dict[str, Any], fields: Mapping[str, str]) -> dict[str, str]:
        env: dict[str, str] = {}
        for source in raw.get("envFrom", []):
            known(f"{where}, envFrom", source, {"configMapRef", "secretRef"})
            for kind, reference in source.items():
                env |= self._referred(where, kind, reference["name"])
        for entry in raw.get("env", []):
            if "valueFrom" not in entry:
                env[entry["name"]] = re.sub(
                    r"\$\((\w+)\)", lambda match: env.get(match[1], match[0]), entry.get("value", "")
                )
                continue
            ((kind, reference),) = entry["valueFrom"].items()
            if kind == "fieldRef":
                if reference["fieldPath"] not in fields:
                    raise ManifestError(f"{where}, {entry['name']}: {reference['fieldPath']} is not known here")
                env[entry["name"]] = fields[reference["fieldPath"]]
                continue
            values = self._referred(where, kind, reference["name"])
            if reference["key"] not in values:
                raise ManifestError(f"{where}, {entry['name']}: {reference['name']} has no key {reference['key']}")
            env[entry["name"]] = values[reference["key"]]
        return env

    def _referred(self, where: str, kind: str, name: str) -> dict[str, str]:
        key = ("Secret" if kind.startswith("secret") else "ConfigMap", name)
        if key not in self.config:
            raise ManifestError(f"{where}: there is no {key[0]} {name}")
        return self.config[key]


def _probe(where: str, raw: dict[str, Any], ports: Mapping[str, int]) -> Probe:
    known(where, raw, PROBE_FIELDS)
    (kind,) = raw.keys() & {"grpc", "httpGet", "tcpSocket", "exec"}
    port = raw[kind].get("port", 0)
    if isinstance(port, str):
        if port not in ports:
            raise ManifestError(f"{where}: the container has no port {port}")
        port = ports[port]
    elif kind != "exec" and port not in ports.values():
        raise ManifestError(f"{where}: the container doesn't declare port {port}")
    return Probe(
        kind,
        port,
        raw[kind].get("path", "/"),
        raw[kind].get("service", ""),
        tuple(raw[kind].get("command", [])),
        float(raw.get("initialDelaySeconds", 0)),
        float(raw.get("periodSeconds", 10)),
        float(raw.get("timeoutSeconds", 1)),
        int(raw.get("failureThreshold", 3)),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
