"""The programs of this repository as child processes: where they are, their environment, their command lines, their end."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from support.processes.forks import ForkedProcess, Forks, ForkServer

Process = subprocess.Popen[bytes] | ForkedProcess

REPOSITORY = Path(__file__).resolve().parents[3]
START_DEADLINE_S = 120.0
"""Far above what a start takes; a loaded machine must not fail a test."""
STOP_DEADLINE_S = 60.0
PORT_ATTEMPTS = 5
"""A program that doesn't use :mod:`support.processes.ports` may take a port between finding and binding it."""


ALL = ["process.extras", "process.native_lines", "process.version:version", "encodings.idna"]
"""What each of them imports at its start."""
SIDECAR = [
    *ALL,
    "sidecar.server",
    "sidecar.fleet.scope",
    "sidecar.rpc.reflection",
    "grpc_channelz.v1.channelz",
]
"""What the sidecar imports at its start."""
WORKER = [
    *ALL,
    "process.settings",
    "grpc._channel",
    "numpy.random",
    "av.subtitles.stream",
    "worker.run_settings",
    "worker.publish.settings",
    "worker.demo.settings",
    "worker.hand_counter",
    "worker.publish.command",
    "worker.publish.ingest_settings",
    "worker.publish.ingest_command",
    "worker.demo.command",
    "support.models.fake_detector",
]
"""What the worker's commands import at their start."""
CONSOLE = [
    *ALL,
    "process.settings",
    "console.web.settings",
    "console.web.running",
    "uvicorn.protocols.http.h11_impl",
    "uvicorn.lifespan.off",
    "anyio._backends._asyncio",
    "redis.asyncio",
]
"""What the console imports at its start."""
SIDECAR_PROGRAMS = ("sidecar", "support.clients.abrupt_client", "support.clients.busy_caller")
WORKER_PROGRAMS = ("worker", "support.processes.worker_main", "support.processes.short_demo")

READ_AT_START = ("PYTHON", "MALLOC_", "GRPC_", "OTEL_")
"""Beginnings of environment variables that act before a program has imported its modules."""

WITH_SUPPORT = {"PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "proto", REPOSITORY / "tests")))}
"""The environment of a program that is a helper of the tests, and imports others."""

_forks: dict[str, Forks] = {}

# Everything that tests and benches start is on this machine. A proxy in the environment would be asked for it all the same,
# by gRPC's channels and by urllib. It stays for pip, which downloads the models.
os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1,localhost,::1")))


def _fork_server(modules: Sequence[str]) -> ForkServer:
    # The programs set it for themselves before they import gRPC, which reads it then.
    variables = repository_environment({**WITH_SUPPORT, "GRPC_VERBOSITY": "NONE"})
    if "coverage" in sys.modules and sys.modules["coverage"].Coverage.current():
        variables["COVERAGE_PROCESS_START"] = str(REPOSITORY / "pyproject.toml")
    return ForkServer(modules, variables)


@contextlib.contextmanager
def fork_servers() -> Iterator[dict[str, bytes]]:
    """Runs the processes that fork the programs while the block runs; yields their addresses, for :func:`forks`.

    They begin at once to import the programs.
    """
    with _fork_server(SIDECAR) as sidecars, _fork_server(WORKER) as workers, _fork_server(CONSOLE) as consoles:
        for server in (sidecars, workers, consoles):
            server.prepare()
        yield {"sidecar": sidecars.address, "worker": workers.address, "console.web": consoles.address}


@contextlib.contextmanager
def forks(servers: Mapping[str, bytes] | None = None) -> Iterator[None]:
    """Makes :func:`start` fork the programs while the block runs, which saves the time of their imports.

    Inside such a block it changes nothing.

    Args:
        servers: the addresses of running fork servers; by default there are some for this block, from the first start on.
    """
    if _forks:
        yield
        return
    with contextlib.ExitStack() as own, contextlib.ExitStack() as stack:

        def forks_of(name: str, modules: Sequence[str]) -> Forks:
            return stack.enter_context(
                Forks(lambda: servers[name] if servers else own.enter_context(_fork_server(modules)).address)
            )

        _forks.update(dict.fromkeys(SIDECAR_PROGRAMS, forks_of("sidecar", SIDECAR)))
        _forks["console.web"] = forks_of("console.web", CONSOLE)
        _forks.update(dict.fromkeys(WORKER_PROGRAMS, forks_of("worker", WORKER)))
        try:
            yield
        finally:
            _forks.clear()


def repository_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment in which a child process imports this tree, free of the programs' own variables."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "WORKER_", "CONSOLE_"))
    }
    return {**kept, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'proto'}", **(extra or {})}


def start(
    module: str,
    *arguments: str,
    output: IO[bytes] | int,
    error: IO[bytes] | int | None = None,
    folder: Path | str = ".",
    environment: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
    fresh: bool = False,
) -> Process:
    """Starts ``python -m MODULE ARGUMENTS``, as a fork inside a :func:`forks` block.

    Args:
        module: the program, such as "sidecar".
        arguments: its flags.
        output: where its standard output goes.
        error: where its standard error goes; by default to its standard output.
        folder: its working directory.
        environment: environment variables besides those of this process.
        constants: values that replace the program's own, such as "sidecar.limits.follower.FIRST_READING_S": 60.0.
        fresh: never fork: the test is about what a start does before the program's modules are imported.
    """
    words = [f"{name}={number}" for name, number in (constants or {}).items()]
    variables = repository_environment(
        {**(WITH_SUPPORT if module.startswith("support.") else {}), **(environment or {})}
    )
    forks = _forks.get(module)
    if forks is not None and not fresh and not any(name.startswith(READ_AT_START) for name in environment or ()):
        files = [
            file if isinstance(file, int) else file.fileno() for file in (output, output if error is None else error)
        ]
        return forks.start(
            module,
            arguments,
            environment=variables,
            constants=words,
            folder=str(folder),
            output=files[0],
            error=files[1],
        )
    command = [sys.executable, "-m", module, *arguments]
    if words:
        runner = str(REPOSITORY / "tests/support/processes/with_constants.py")
        command = [sys.executable, "-P", runner, module, *words, "--", *arguments]
    return subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT if error is None else error, cwd=folder, env=variables
    )


def run(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, fresh: bool = False
) -> "subprocess.CompletedProcess[str]":
    """Runs ``python -m MODULE ARGUMENTS`` to its end; see :func:`start`."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        process = start(module, *arguments, output=output, error=error, environment=environment, fresh=fresh)
        try:
            code = process.wait(START_DEADLINE_S)
        finally:
            end(process)
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess([module, *arguments], code, *texts)


def end(process: Process) -> None:
    """Ends a process, also a paused one: by SIGTERM, and by SIGKILL if it doesn't stop. Does nothing if it has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            kill(process)


def kill(process: Process) -> None:
    """Ends a process as a crash would (SIGKILL) and waits until it is gone."""
    process.kill()
    process.wait(STOP_DEADLINE_S)
