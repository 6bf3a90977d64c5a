"""The programs of this repository as child processes: where they are, their environment, their command lines, their end."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
START_DEADLINE_S = 120.0
"""Far above what a start takes; a loaded machine must not fail a test."""
STOP_DEADLINE_S = 60.0
PORT_ATTEMPTS = 5
"""A program that doesn't use :mod:`support.processes.ports` may take a port between finding and binding it."""


def repository_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment in which a child process imports this tree, free of the programs' own variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "WORKER_"))}
    return {**kept, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'proto'}", **(extra or {})}


def python_program(module: str, constants: Mapping[str, float] | None = None) -> list[str]:
    """Returns the command line of one of the programs, with other constants if any are given; flags may follow."""
    if not constants:
        return [sys.executable, "-m", module]
    words = [f"{name}={number}" for name, number in constants.items()]
    return [sys.executable, str(REPOSITORY / "tests/support/processes/with_constants.py"), module, *words, "--"]


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process, also a paused one: by SIGTERM, and by SIGKILL if it doesn't stop. Does nothing if it has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process as a crash would (SIGKILL) and waits until it is gone."""
    process.kill()
    process.wait(STOP_DEADLINE_S)
