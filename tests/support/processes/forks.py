"""The programs as forks of a process that has imported them: real processes, at a fraction of the CPU time of a start.

See :mod:`support.processes.fork_server` for how it works. Benches, and tests of what a start does, don't use this.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SERVER = Path(__file__).with_name("fork_server.py")


class ForkedProcess:
    """A running fork, with what tests use of :class:`subprocess.Popen`."""

    def __init__(self, status: int, arguments: Sequence[str]) -> None:
        self.args = arguments
        self.returncode: int | None = None
        """The exit code, negative for a signal; None while it runs, as far as was asked."""
        self._status = open(status, "rb", buffering=0)  # noqa: SIM115 (a pipe, closed at the end of the process)
        self.pid = int(self._status.readline() or 0)
        assert self.pid, "the fork server has ended"

    def poll(self) -> int | None:
        """Returns the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code when the process has ended.

        Raises:
            subprocess.TimeoutExpired: it hasn't ended in time.
        """
        if self.returncode is None:
            readable, _, _ = select.select([self._status], [], [], timeout)
            if not readable:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0.0)
            self.returncode = int(self._status.readline() or -signal.SIGKILL)
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, while the block runs. Processes that connect to its address have their own starts."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], program: Path = SERVER) -> None:
        """Starts it; it imports the modules, its arguments, when it has to fork for the first time or is told to."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind("")  # an abstract name that Linux chooses; it disappears with the process
            listener.listen(64)
            self.address: bytes = listener.getsockname()
            self._owner = connect(self.address)
            command = [sys.executable, str(program), *arguments]
            self._process = subprocess.Popen(command, stdin=listener, env=dict(environment))

    def prepare(self) -> None:
        """Has it import the modules now, without waiting for that."""
        self._owner.send(b"\0")

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._owner.close()
        # It ends when its clients have, and those of a run that was interrupted still wait for the one that waits here.
        if kind is None:
            self._process.wait()


class Forks:
    """Starts a program by forking a process that has imported its modules.

    Args:
        find_server: Returns the address of the fork server; called at the first start.
    """

    def __init__(self, find_server: Callable[[], bytes]) -> None:
        self._find_server = find_server
        self._server: socket.socket | None = None

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the forks that still run."""
        if self._server is not None:
            self._server.close()

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        constants: Sequence[str],
        folder: str,
        output: int,
        error: int,
    ) -> ForkedProcess:
        """Starts ``python -m MODULE ARGUMENTS``.

        Args:
            module: the program.
            arguments: its flags.
            environment: all of its environment variables.
            constants: MODULE.NAME=NUMBER, values that replace the program's own.
            folder: its working directory.
            output: the file descriptor of its standard output.
            error: the file descriptor of its standard error.
        """
        if self._server is None:
            self._server = connect(self._find_server())
        request = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "constants": list(constants),
            "folder": folder,
        }
        status, status_of_fork = os.pipe()
        try:
            socket.send_fds(self._server, [json.dumps(request).encode()], [output, error, status_of_fork])
        finally:
            os.close(status_of_fork)
        return ForkedProcess(status, [module, *arguments])


def connect(address: bytes) -> socket.socket:
    """Returns a connection to a fork server."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(address)
    return connection
