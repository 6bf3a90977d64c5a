"""The parts of the engine's command line that pods need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from podrun.manifest import Container

PAUSE_IMAGE = "pause:ci"


class EngineError(Exception):
    """A command of the engine failed; the text is its output."""


def docker(*arguments: str, check: bool = True, timeout: float = 120.0) -> str:
    """Runs one command; returns its output of both channels."""
    done = subprocess.run(
        ["/usr/bin/docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
    )
    if check and done.returncode:
        raise EngineError(f"docker {' '.join(arguments)}: {done.stdout.strip()}")
    return done.stdout


def state(name: str) -> dict[str, Any]:
    """Returns the State of a container: Running, ExitCode, OOMKilled, Pid, ..."""
    states: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", name))
    return states


def make_volume(name: str, limit: int | None, fs_group: str | None) -> None:
    """Creates an emptyDir, in memory, of the pod's group and of limited size as the manifest says."""
    options = f"gid={fs_group or 0},mode=02770" + (f",size={limit}" if limit is not None else "")
    docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", f"o={options}", name)


def start_pause(name: str, hostname: str, hosts: dict[str, str], volumes: Sequence[str]) -> int:
    """Starts the container that holds the pod's network and volumes; returns its process id.

    The containers of the pod share its /etc/hosts, which has the names of the Services. A volume in memory lives as long
    as a container uses it, and this container always does.
    """
    options = [option for host, address in hosts.items() for option in ("--add-host", f"{host}:{address}")]
    options += [option for index, volume in enumerate(volumes) for option in ("--volume", f"{volume}:/volume{index}")]
    docker("run", "--detach", "--name", name, "--network", "none", "--hostname", hostname, *options, PAUSE_IMAGE)
    return int(state(name)["Pid"])


def start(name: str, container: Container, pause: str, volumes: dict[str, str], pod_address: str) -> None:
    """Starts a container in the network of a pod."""
    options: list[str] = []
    if container.memory is not None:
        options += ["--memory", str(container.memory), "--memory-swap", str(container.memory)]
    if container.cpus is not None:
        options += ["--cpus", str(min(container.cpus, os.cpu_count() or 1))]
    if container.user is not None:
        options += ["--user", f"{container.user}:{container.group or 0}"]
    if container.fs_group is not None:
        options += ["--group-add", container.fs_group]
    if container.read_only:
        options.append("--read-only")
    if container.no_new_privileges:
        options += ["--security-opt", "no-new-privileges"]
    for capability in container.dropped:
        options += ["--cap-drop", capability]
    for key, value in container.env.items():
        options += ["--env", f"{key}={value.replace('$(POD_IP)', pod_address)}"]
    for mount in container.mounts:
        options += ["--volume", f"{volumes[mount.volume]}:{mount.path}" + (":ro" if mount.read_only else "")]
    command = list(container.args)
    if container.command:
        options += ["--entrypoint", container.command[0]]
        command = [*container.command[1:], *container.args]
    # A kubelet ignores an image's HEALTHCHECK.
    options += ["--no-healthcheck", "--log-driver", "json-file"]
    docker("run", "--detach", "--name", name, "--network", f"container:{pause}", *options, container.image, *command)


def stop(name: str, grace: float) -> None:
    """Sends the stop signal, and kills after the grace period."""
    docker("stop", "--time", str(max(0, round(grace))), name, check=False, timeout=grace + 30)


def kill(name: str) -> None:
    """Kills the process directly, as the kernel would."""
    os.kill(int(state(name)["Pid"]), signal.SIGKILL)


def logs(name: str) -> str:
    """Returns the container's output; raises EngineError if there is no such container."""
    return docker("logs", name)
