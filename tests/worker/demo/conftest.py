"""The demo's own programs as forks: real processes, without the time of their imports."""

import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import IO, Any

import pytest
from support.processes import programs


@pytest.fixture
def forked_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the demo starts by ``python -m`` is a fork; Valkey isn't. tests/integration/test_demo.py has their starts."""

    def start(command: Sequence[str], *, stdout: IO[bytes], **options: Any) -> programs.Process:
        if command[:2] == [sys.executable, "-m"]:
            return programs.start(command[2], *command[3:], output=stdout)
        return subprocess.Popen(command, stdout=stdout, **options)

    names = ("DEVNULL", "STDOUT", "TimeoutExpired")
    of_python = {name: getattr(subprocess, name) for name in names}
    monkeypatch.setattr("worker.demo.processes.subprocess", SimpleNamespace(Popen=start, **of_python))
