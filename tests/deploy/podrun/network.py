"""A bridge on which each pod has its own address, and the machine is the node."""

from __future__ import annotations

import subprocess


class Network:
    """Created on entry, removed on exit. It has no route to the outside."""

    def __init__(self, name: str = "hcpods", prefix: str = "10.213.77") -> None:
        self._name = name
        self._prefix = prefix
        self._last = 1

    @property
    def node(self) -> str:
        """Returns the node's address."""
        return f"{self._prefix}.1"

    def __enter__(self) -> Network:
        _ip("link", "add", self._name, "type", "bridge")
        _ip("address", "add", f"{self.node}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")
        return self

    def __exit__(self, *_: object) -> None:
        _ip("link", "delete", self._name)

    def reserve(self) -> str:
        """Returns an unused address."""
        self._last += 1
        return f"{self._prefix}.{self._last}"

    def attach(self, pid: int, address: str) -> None:
        """Assigns an address to the network namespace of a process."""
        outside = f"{self._name}{address.rpartition('.')[2]}"
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", outside, "master", self._name, "up")
        for words in (("address", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _run("nsenter", "--target", str(pid), "--net", "ip", *words)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stdout.strip()}")
