"""Starts programs as the first process of a namespace, as in a container."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

_WORDS = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]

needs_namespaces = pytest.mark.skipif(
    subprocess.run([*_WORDS, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs the right to make a PID namespace",
)


def start_first(command: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """Starts a command as the first process of its namespace; its exit code is that of the process here."""
    return subprocess.Popen(
        [*_WORDS, *command],
        env={**environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pid_of_first(process: "subprocess.Popen[str]") -> int:
    """Returns the id of the first process, as it is outside of the namespace."""
    (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(first)
