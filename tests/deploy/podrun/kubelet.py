"""A kubelet's work on a pod: the order of starting and stopping, probes, restarts, and a record of events."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from podrun import engine
from podrun.manifest import Container, PodSpec, Probe
from podrun.mounted_files import MountedFiles
from podrun.network import Network
from podrun.probes import attempt
from podrun.volumes import Config, EmptyDir, FileVolume

TICK_S = 0.1
FIRST_BACKOFF_S, LAST_BACKOFF_S = 10.0, 300.0
"""The kubelet's back-off: the first restart is immediate, the second waits this long, and each further wait doubles."""

LEAST_GRACE_S = 2.0
"""The time that a sidecar gets to stop, even if the containers before it used up the pod's grace period."""


@dataclass(frozen=True)
class Event:
    """An event as in `kubectl describe pod`."""

    at: float
    """Seconds since the start of the pod."""
    container: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.container}: {self.text}"


@dataclass
class Events:
    """All events of a pod, in order."""

    tell: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)
    happened: list[Event] = field(default_factory=list)

    def add(self, container: str, text: str) -> None:
        """Records an event with the current time."""
        event = Event(time.monotonic() - self.began, container, text)
        self.happened.append(event)
        self.tell(str(event))

    def texts(self, container: str) -> list[str]:
        """Returns the events of one container."""
        return [event.text for event in self.happened if event.container == container]


class Running:
    """A container and its successors: each restart creates a new one, as in a cluster. A thread supervises it."""

    def __init__(self, container: Container, pod: Pod) -> None:
        self.container = container
        self.restarts = 0
        self.started = False
        self.ready = False
        self.finished = False
        self.exits: list[tuple[int, bool]] = []
        """For each ended container, the exit code and whether it ran out of memory."""
        self._pod = pod
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=self.name, daemon=True)

    @property
    def name(self) -> str:
        """Returns the engine's name of the current container."""
        return f"{self._pod.prefix}-{self.container.name}-{self.restarts}"

    def start(self) -> None:
        """Starts the first container and its supervising thread."""
        self._launch()
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Stops it permanently."""
        self._stopping.set()
        if self._thread.ident:
            self._thread.join()
        if self.finished:
            return
        began = time.monotonic()
        engine.stop(self.name, grace)
        state = engine.state(self.name)
        self.exits.append((state["ExitCode"], state["OOMKilled"]))
        self.finished = True
        self.started = self.ready = False
        self._tell(f"stopped with exit code {state['ExitCode']} after {time.monotonic() - began:.1f} s")

    def logs(self) -> str:
        """Returns the output of all its containers, oldest first."""
        base = f"{self._pod.prefix}-{self.container.name}"
        parts = []
        for number in range(self.restarts + 1):
            with contextlib.suppress(engine.EngineError):  # one that is being started has none yet
                parts.append(engine.logs(f"{base}-{number}"))
        return "".join(parts)

    def kill(self) -> None:
        """Kills the current container's process."""
        engine.kill(self.name)

    def _launch(self) -> None:
        engine.start(self.name, self.container, self._pod.pause, self._pod.volumes, self._pod.address)
        probes = self.container.probes
        self.started = "startupProbe" not in probes
        self.ready = self.started and "readinessProbe" not in probes
        self._failures = dict.fromkeys(probes, 0)
        now = time.monotonic()
        self._due = {kind: now + probe.delay for kind, probe in probes.items()}
        self._since = now
        self._tell("started" if not self.restarts else f"restarted, the {self.restarts}. time")

    def _supervise(self) -> None:
        while not self._stopping.wait(TICK_S):
            state = engine.state(self.name)
            if not state["Running"]:
                self._ended(state["ExitCode"], state["OOMKilled"])
                if not self.container.keeps_running:
                    self.finished = True
                    return
                self._restart()
                continue
            for kind in self._applicable():
                if time.monotonic() >= self._due[kind] and not self._stopping.is_set():
                    self._probe(kind, self.container.probes[kind])

    def _applicable(self) -> list[str]:
        kinds = ["livenessProbe", "readinessProbe"] if self.started else ["startupProbe"]
        return [kind for kind in kinds if kind in self.container.probes]

    def _probe(self, kind: str, probe: Probe) -> None:
        problem = attempt(probe, self._pod.address, self.name)
        self._due[kind] = time.monotonic() + probe.period
        if not problem:
            self._failures[kind] = 0
            if kind == "startupProbe":
                self.started, self.ready = True, "readinessProbe" not in self.container.probes
                self._tell(f"startup probe passed after {time.monotonic() - self._since:.1f} s")
            elif kind == "readinessProbe" and not self.ready:
                self.ready = True
                self._tell("ready")
            return
        self._failures[kind] += 1
        self._tell(f"{kind} failed, {self._failures[kind]} of {probe.failures}: {problem}")
        if self._failures[kind] < probe.failures:
            return
        if kind == "readinessProbe":
            if self.ready:
                self.ready = False
                self._tell("not ready")
            return
        self._tell(f"{kind} failed permanently: restarting")
        engine.stop(self.name, self._pod.spec.grace)
        state = engine.state(self.name)
        self._ended(state["ExitCode"], state["OOMKilled"])
        self._restart()

    def _ended(self, code: int, out_of_memory: bool) -> None:
        self.exits.append((code, out_of_memory))
        self.started = self.ready = False
        self._tell(f"ended with exit code {code}" + (", out of memory" if out_of_memory else ""))

    def _restart(self) -> None:
        backoff = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (self.restarts - 1)) if self.restarts else 0.0
        if backoff:
            self._tell(f"back-off: {backoff:g} s")
        if not self._stopping.wait(backoff):
            self.restarts += 1
            self._launch()
        else:
            self.finished = True

    def _tell(self, text: str) -> None:
        self._pod.events.add(self.container.name, text)


class Pod:
    """One pod on this machine."""

    def __init__(
        self,
        spec: PodSpec,
        address: str,
        hosts: dict[str, str],
        config: Config,
        folder: Path,
        tell: Callable[[str], None],
    ) -> None:
        self.spec = spec
        self.address = address
        self.prefix = f"{spec.namespace}-{spec.name}"
        self.pause = f"{self.prefix}-pause"
        self._empty_dirs = {
            f"{self.prefix}-{name}": volume for name, volume in spec.volumes.items() if isinstance(volume, EmptyDir)
        }
        group = None if spec.fs_group is None else int(spec.fs_group)
        self._files = {
            name: (volume, MountedFiles(folder / self.prefix / name, volume.mode, group))
            for name, volume in spec.volumes.items()
            if isinstance(volume, FileVolume)
        }
        self.volumes = {
            name: str(self._files[name][1].folder) if name in self._files else f"{self.prefix}-{name}"
            for name in spec.volumes
        }
        """What the engine mounts for each volume: one of its own, or a folder of this machine."""
        self._config = config
        self.events = Events(lambda text: tell(f"{spec.name} {text}"))
        self.containers: dict[str, Running] = {}
        self._hosts = hosts
        self._stopped = threading.Event()

    def start(self, network: Network) -> None:
        """Starts the containers in order; returns when the last one has started, or the pod is stopped."""
        for name, volume in self._empty_dirs.items():
            engine.make_volume(name, volume.limit, self.spec.fs_group)
        self.write_files()
        pid = engine.start_pause(self.pause, self.spec.name, self._hosts, list(self._empty_dirs))
        network.attach(pid, self.address)
        for container in self.spec.init:
            running = self._launch(container, container)
            while not (running.started if container.keeps_running else running.finished):
                if self._stopped.wait(TICK_S):
                    return
        for container in self.spec.main:
            self._launch(container, _always(container))

    def write_files(self) -> None:
        """Writes the files of ConfigMaps and Secrets as they are now, if they are others than before."""
        for name, (volume, files) in self._files.items():
            files.write(volume.content(f"{self.spec.name}, volume {name}", self._config))

    def _launch(self, container: Container, as_run: Container) -> Running:
        running = self.containers[container.name] = Running(as_run, self)
        running.start()
        return running

    @property
    def ready(self) -> bool:
        """Whether every container runs and is ready."""
        names = [c.name for c in self.spec.main] + [c.name for c in self.spec.init if c.keeps_running]
        return all(name in self.containers and self.containers[name].ready for name in names)

    def stop(self) -> None:
        """Stops the containers as a kubelet does: the main ones together, then the sidecars in reverse order."""
        self._stopped.set()
        deadline = time.monotonic() + self.spec.grace
        mains = [self.containers[c.name] for c in self.spec.main if c.name in self.containers]
        threads = [threading.Thread(target=running.stop, args=[self.spec.grace]) for running in mains]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for container in reversed(self.spec.init):
            if container.name in self.containers:
                self.containers[container.name].stop(max(LEAST_GRACE_S, deadline - time.monotonic()))

    def remove(self) -> None:
        """Removes the pod's containers and volumes from the engine."""
        names = [self.pause]
        for running in self.containers.values():
            names += [f"{self.prefix}-{running.container.name}-{number}" for number in range(running.restarts + 1)]
        for name in names:
            engine.docker("rm", "--force", name, check=False)
        for volume in self._empty_dirs:
            engine.docker("volume", "rm", "--force", volume, check=False)

    def explain(self) -> str:
        """Returns what an operator would look at: events and logs."""
        parts = [f"{self.spec.name} at {self.address}, {'ready' if self.ready else 'not ready'}"]
        parts += map(str, self.events.happened)
        for name, running in self.containers.items():
            with contextlib.suppress(engine.EngineError):
                parts += [f"-- logs of {name}", running.logs().rstrip()]
        return "\n".join(parts)


def _always(container: Container) -> Container:
    """Returns a main container of a Deployment such that it is restarted whatever its exit code."""
    return Container(**{**vars(container), "keeps_running": True})
