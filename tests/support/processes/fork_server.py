"""A process that has imported a program and forks once for every start of it.

    python fork_server.py MODULE[:FUNCTION] ...     its standard input is the socket at which it listens

A start costs what the program does, not what its imports cost: 0.6 s of CPU for a sidecar, 1 s for a worker. Each fork is a
process as any other, with the flags, environment, folder and output that :class:`support.processes.forks.Forks` sends, and
runs the program's ``__main__`` from its first line.

The processes of one test run share it. It forks for each client that connects; that fork then serves the client's starts.
The first client is the owner, which starts nothing: when it is gone, the server ends as soon as the others are gone too.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from with_constants import set_constants

MOST_BYTES = 1 << 20


class Clients:
    """Accepts clients, and forks for each of them."""

    def __init__(self, listener: socket.socket, prepare: Callable[[], None]) -> None:
        """Accepts the owner. What the forks have in common is prepared when the owner says so, or the first is needed."""
        self._listener = listener
        self._owner, _ = listener.accept()
        self._prepare: Callable[[], None] | None = prepare
        self._wakeup = _wakeup_of_ended_children()

    def serve(self) -> socket.socket:
        """Returns in each fork, with the connection of the client that it is to serve."""
        while True:
            readable, _, _ = select.select([self._listener, self._owner, self._wakeup], [], [])
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
                _reap(os.WNOHANG)
            if self._listener in readable:
                client, _ = self._listener.accept()
                self._prepare_once()
                if not os.fork():
                    os.dup2(os.open(os.devnull, os.O_RDWR), self._listener.detach())  # no file that arrives becomes 0
                    self._owner.close()
                    os.close(self._wakeup)
                    return client
                client.close()
            elif self._owner in readable:
                if not self._owner.recv(1):
                    _reap(0)
                    end_process(0)
                self._prepare_once()

    def _prepare_once(self) -> None:
        if self._prepare is not None:
            self._prepare()
            self._prepare = None


class Forks:
    """Serves the starts of one client until that is gone, then kills what it has started and still runs."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._statuses: dict[int, int] = {}
        """The file descriptor that gets the exit code, by process."""
        self._wakeup = _wakeup_of_ended_children()

    def serve(self) -> dict[str, Any]:
        """Returns in each fork, with the request that it is to fulfil."""
        while True:
            readable, _, _ = select.select([self._client, self._wakeup], [], [])
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
                self._reap()
            if self._client in readable:
                message, files, _, _ = socket.recv_fds(self._client, MOST_BYTES, 3)
                if not message:
                    self._end()
                if self._fork(files):
                    request: dict[str, Any] = json.loads(message)
                    return request

    def _fork(self, files: list[int]) -> bool:
        """Forks; returns whether this is the fork, whose standard output, error and nothing else are these files."""
        output, error, status = files
        process = os.fork()
        if process:
            os.close(output)
            os.close(error)
            os.write(status, b"%d\n" % process)
            self._statuses[process] = status
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for source, target in ((nothing, 0), (output, 1), (error, 2)):
            os.dup2(source, target)
        self._client.detach()
        os.closerange(3, 1024)
        return True

    def _reap(self) -> None:
        while self._statuses:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            file = self._statuses.pop(process)
            with contextlib.suppress(BrokenPipeError):  # nothing waits for this process any more
                os.write(file, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(file)

    def _end(self) -> NoReturn:
        for process in self._statuses:
            os.kill(process, signal.SIGKILL)
        end_process(0)


def _wakeup_of_ended_children() -> int:
    """Returns a file descriptor that is readable when a child has ended."""
    wakeup, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    return wakeup


def _reap(flags: int) -> None:
    """Forgets the children that have ended; without WNOHANG, waits for all of them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, flags)[0]:
            pass


def import_modules() -> None:
    """Imports what the programs import at their start, and calls the functions that are named after a colon."""
    gc.disable()
    for word in sys.argv[1:]:
        module, _, function = word.partition(":")
        imported = importlib.import_module(module)
        if function:
            getattr(imported, function)()
    gc.freeze()
    gc.enable()


def main() -> None:
    """Serves; in each fork runs what was asked for."""
    if "COVERAGE_PROCESS_START" in os.environ:
        coverage = importlib.import_module("coverage")
        coverage.process_startup()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal goes to all; the tests end what they started
    request = Forks(Clients(socket.socket(fileno=0), import_modules).serve()).serve()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    set_constants(request["constants"])
    sys.argv[1:] = request["arguments"]
    _run(request["module"])


def _run(module: str) -> None:
    """Runs the program; if that succeeds or exits with a number, ends the process quickly."""
    code = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        code = ending.code
    if not isinstance(code, int | None):
        sys.exit(code)
    end_process(code or 0)


def end_process(code: int) -> NoReturn:
    """Ends this process as the interpreter does, after threads and exit handlers, but for its objects.

    Freeing them one by one would copy most of the memory that the forks share, and take as much time as all the rest of a
    start and a stop of a program.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        code = 120  # as the interpreter's
    os._exit(code)


if __name__ == "__main__":
    main()
