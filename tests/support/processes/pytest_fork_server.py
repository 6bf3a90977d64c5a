"""A process that has imported all tests, and forks for each process of pytest-xdist.

    python pytest_fork_server.py ARGUMENTS_OF_PYTEST     its standard input is the socket at which it listens

Each of those processes collects all tests. Most of that is imports, and on a fresh checkout the rewriting of assertions: 9 s
of CPU, of which a fork saves 7 s. :mod:`support.processes.pytest_fork` stands for a fork where pytest-xdist started a process.
"""

import gc
import os
import signal
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import cv2
import pytest
from fork_server import Clients, end_process


class _Collected:
    """Notes whether all modules were imported."""

    def __init__(self) -> None:
        self.whole = True
        self.skipped: set[Path] = set()
        """Modules and folders that were skipped as a whole, such as for a library that isn't installed."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        self.whole = self.whole and not report.failed
        if report.skipped:
            self.skipped |= {collector.path, collector.path / "conftest.py"}
        return report

    def forget_skipped(self) -> None:
        """Has modules imported again that were left while they were executed: a fork would take what there is of them."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file) in self.skipped:
                del sys.modules[name]


collected = _Collected()


def collect() -> None:
    """Collects the tests as pytest does, without output: what fails here fails again in the forks, which report it."""
    cv2.setNumThreads(0)  # OpenCV would wait for ever for the threads of a pool that a fork doesn't have
    output, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    code = pytest.main(["--collect-only", "--quiet", *sys.argv[1:]], plugins=[collected])
    collected.whole = collected.whole and code == pytest.ExitCode.OK
    collected.forget_skipped()
    os.dup2(output, 1)
    os.close(output)
    os.close(nothing)


def main() -> None:
    """Serves; each fork does what the Python would do that pytest-xdist has started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal goes to all; the first process ends the others
    client = Clients(socket.socket(fileno=0), collect).serve()
    words, files, _, _ = socket.recv_fds(client, 1 << 16, 3)
    arguments = words.decode().split("\0")
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not collected.whole:  # a module of which half was executed would count as imported
        os.execv(sys.executable, [sys.executable, *arguments])
    cv2.setNumThreads(1)  # test processes run beside each other, and a pool's threads wait for each other actively
    gc.disable()  # as tests/conftest.py does, until all is collected
    sys.stdin, sys.stdout = (open(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w")))  # noqa: SIM115
    sys.argv = ["-c"]
    # The code that comes is that of execnet, which may end this process (tests/support/processes/own_process.py).
    exec(arguments[arguments.index("-c") + 1], {"__name__": "execnet"})
    end_process(0)


if __name__ == "__main__":
    main()
