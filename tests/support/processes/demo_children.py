"""The demo's own programs as forks: real processes, without the time of their imports."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import IO, Any

from support.processes import programs


def forking(started: Callable[[programs.Process], None] = lambda _: None) -> SimpleNamespace:
    """Returns what stands for the module subprocess in :mod:`worker.demo.processes`: ``python -m`` is a fork, Valkey isn't.

    Args:
        started: called with each fork.
    """

    def start(command: Sequence[str], *, stdout: IO[bytes], **options: Any) -> programs.Process:
        if command[:2] != [sys.executable, "-m"]:
            return subprocess.Popen(command, stdout=stdout, **options)
        process = programs.start(command[2], *command[3:], output=stdout)
        started(process)
        return process

    names = ("DEVNULL", "STDOUT", "TimeoutExpired")
    return SimpleNamespace(Popen=start, **{name: getattr(subprocess, name) for name in names})
