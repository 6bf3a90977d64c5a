"""All pods of a rendered overlay on this machine."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from podrun.kubelet import Pod
from podrun.manifest import Manifests
from podrun.network import Network
from podrun.reading import ManifestError


class NotReadyError(Exception):
    """The pods weren't ready in time; the text has their events and logs."""


class Cluster:
    """Starts the pods on entry, stops and removes them on exit."""

    def __init__(
        self, documents: Iterable[dict[str, Any]], tell: Callable[[str], None] = print, network: Network | None = None
    ) -> None:
        """Takes the documents of an overlay and a callback for events."""
        self._manifests = manifests = Manifests([document for document in documents if document])
        self.network = network or Network()
        specs = manifests.pods()
        addresses = {spec.name: self.network.reserve() for spec in specs}
        hosts: dict[str, str] = {}
        self._served: set[str] = set()
        for service in manifests.services():
            picked = [spec for spec in specs if service.selector.items() <= spec.labels.items()]
            if not picked:
                raise ManifestError(f"Service {service.name}: no pod has the labels {service.selector}")
            ports = {name: port for c in picked[0].main for name, port in c.ports.items()}
            for port, target in service.ports.items():
                if (ports.get(target) if isinstance(target, str) else target) != port:
                    raise ManifestError(f"Service {service.name}: port {port} leads to {target}; no mapping here")
            address = addresses[picked[0].name]
            self._served.add(address)
            for name in (service.name, f"{service.name}.{service.namespace}"):
                hosts[name] = address
        self._folder = Path(tempfile.gettempdir(), f"podrun-{uuid.uuid4().hex}")
        replicas = Counter(spec.workload for spec in specs)
        self.pods = {
            spec.workload if replicas[spec.workload] == 1 else spec.name: Pod(
                spec, addresses[spec.name], hosts, manifests.config, self._folder, tell
            )
            for spec in specs
        }
        """The pods by the names of their workloads, those of several replicas with their numbers."""
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Cluster:
        self.network.__enter__()
        for pod in self.pods.values():
            thread = threading.Thread(target=pod.start, args=[self.network], daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
            for pod in self.pods.values():
                pod.remove()
        finally:
            self.network.__exit__()
            shutil.rmtree(self._folder, ignore_errors=True)

    def apply(self, documents: Iterable[dict[str, Any]]) -> None:
        """Takes changed ConfigMaps and Secrets: the files that pods have of them follow at once, and nothing restarts."""
        self._manifests.configure(documents)
        for pod in self.pods.values():
            pod.write_files()

    def stop(self) -> None:
        """Stops all pods, those behind a Service after those that use it. They aren't removed, for inspection."""
        for wave in (False, True):
            threads = [
                threading.Thread(target=pod.stop) for pod in self.pods.values() if (pod.address in self._served) is wave
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for thread in self._threads:
            thread.join()

    def wait_ready(self, timeout: float) -> None:
        """Returns when all pods are ready; raises NotReadyError with their events and logs."""
        deadline = time.monotonic() + timeout
        while not all(pod.ready for pod in self.pods.values()):
            if time.monotonic() > deadline:
                raise NotReadyError("\n\n".join(pod.explain() for pod in self.pods.values()))
            time.sleep(0.1)


def load(path: str) -> list[dict[str, Any]]:
    """Reads a rendered overlay."""
    return [document for document in yaml.safe_load_all(Path(path).read_text()) if document]
