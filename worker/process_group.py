"""Several processes of one worker: each has an interpreter, and so a lock, of its own. They share pod, sidecar and GPU.

This process counts nothing: it forks the others before it has any thread, passes signals on, and ends when they have ended. If
one ends by itself, all do, and a supervisor starts the worker anew: what one process died of, such as a lost GPU, most often
concerns the others, too. If this process dies, the others stop.

A service manager may send a signal to all processes at once. So the others ignore a second one, and only the first process
exits at once: then they do the same, as they were told before that the end is near.
"""

from __future__ import annotations

import logging
import os
import queue as queues
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import NoReturn

from worker.group_health import Member
from worker.stop_signals import stop_signals

logger = logging.getLogger(__name__)

LONGER_S = 10.0
"""How much longer than their grace period processes may take to stop before they are killed."""

FAILED = 1

ReportAddress = Callable[[str], None]
"""Takes the address at which a process serves its pages; an empty one when it closes them."""

RunOne = Callable[[int, ReportAddress], int]
"""Does the work of the process with this number; returns its exit code."""

Serve = Callable[[Callable[[], Sequence[Member]]], AbstractContextManager[object]]
"""Serves the pages of all processes inside the block; takes what returns what is known of each."""


def run_processes(number: int, run_one: RunOne, serve: Serve, *, grace: float, drain: bool) -> int:
    """Runs several processes until a signal stops them, or until all have done their work.

    Args:
        number: of processes.
        run_one: what each does; it ignores a second signal.
        serve: serves their pages; raises OSError if it can't.
        grace: seconds that they take to stop at most.
        drain: whether their work comes to an end.

    Returns:
        The exit code: 0 for a clean stop; else that of the first process that failed, 1 if a signal ended it.
    """
    group = ProcessGroup(number, run_one, drain=drain)
    with stop_signals(group.changed) as signalled:
        try:
            with serve(group.members):
                code = group.wait(signalled)
                return group.stop(grace) or code
        except OSError:
            group.stop(grace)
            raise


class ProcessGroup:
    """Forked processes."""

    def __init__(self, number: int, run_one: RunOne, *, drain: bool = False) -> None:
        """Forks them. No thread may run yet."""
        self._drain = drain
        self.changed = threading.Event()
        """Set when a process has ended, and by whoever wants the group to stop."""
        self._addresses: dict[int, str] = {}
        """Where processes serve their pages, as far as they have said it."""
        self._closed: set[int] = set()
        """The processes that have closed them, or have ended."""
        self._number = number
        self._ended: queues.SimpleQueue[tuple[int, int]] = queues.SimpleQueue()
        self._running: dict[int, int] = {}
        """Process ids by number."""
        self._keep: dict[int, int] = {}
        """The pipes by which processes learn that they are to stop, and, at their end, that this process is gone."""
        reports, self._report = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()  # else each process would write it
        for each in range(number):
            alive, self._keep[each] = os.pipe()
            process = os.fork()
            if process == 0:
                for descriptor in (*self._keep.values(), reports):
                    os.close(descriptor)
                self._run_as(each, run_one, alive)
            os.close(alive)
            self._running[each] = process
        os.close(self._report)
        for each, process in self._running.items():
            self._thread(f"process-{each}", self._wait_for, each, process)
        self._thread("addresses", self._read_addresses, reports)

    def members(self) -> list[Member]:
        """Returns what is known of each process. For any thread."""
        return [Member(self._addresses.get(each, ""), each in self._closed) for each in range(self._number)]

    def wait(self, signalled: threading.Event) -> int:
        """Waits for a signal, or for processes that end; returns the exit code so far."""
        while self._running and not signalled.is_set():
            self.changed.wait()
            self.changed.clear()
            if code := self._collect(stopping=signalled.is_set()):
                return code
        return 0

    def stop(self, seconds: float) -> int:
        """Stops all processes that run; returns the exit code of the first that failed, or 0."""
        deadline = time.monotonic() + seconds + LONGER_S
        for each, process in self._running.items():
            with suppress(ProcessLookupError, BrokenPipeError):
                os.write(self._keep[each], b"\0")
                os.kill(process, signal.SIGTERM)
        code = 0
        while self._running and time.monotonic() < deadline:
            self.changed.wait(max(0.0, deadline - time.monotonic()))
            self.changed.clear()
            failed = self._collect(stopping=True)
            code = code or failed
        for each, process in self._running.items():
            logger.error("a process doesn't stop and is killed", extra={"number": each})
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            code = code or FAILED
        return code

    def _collect(self, *, stopping: bool) -> int:
        """Takes note of processes that have ended; returns the exit code of the first that failed, or 0.

        Args:
            stopping: whether they are to end: by SIGTERM, if they are still loading their models.
        """
        first = 0
        while not self._ended.empty():
            each, code = self._ended.get()
            del self._running[each]
            self._closed.add(each)
            if code == 0 and self._drain and not stopping:
                logger.info("a process has ended", extra={"number": each, "reason": "its work is done"})
            elif not stopping or code not in (0, -signal.SIGTERM):
                logger.error("a process has ended; the others stop", extra={"number": each, "exit_code": code})
                first = first or (code if code > 0 else FAILED)
        return first

    def _run_as(self, number: int, run_one: RunOne, alive: int) -> NoReturn:
        """Does the work of one of the processes, and ends it."""
        code = FAILED
        try:
            os.setpgid(0, 0)  # else Ctrl-C would reach it twice
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the first process of a container has a handler
            self._thread("parent", self._end_with_parent, alive)
            code = run_one(number, lambda address: self._report_address(number, address))
        except BaseException:
            logger.exception("a process failed", extra={"number": number})
        finally:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(code)

    @staticmethod
    def _end_with_parent(alive: int) -> None:
        if os.read(alive, 1):  # it stops already, when the first process exits at once
            os.read(alive, 1)
            os._exit(FAILED)
        os.kill(os.getpid(), signal.SIGTERM)

    def _report_address(self, number: int, address: str) -> None:
        with suppress(BrokenPipeError):  # the first process has ended, and the pages with it
            os.write(self._report, f"{number} {address}\n".encode())

    def _read_addresses(self, reports: int) -> None:
        with os.fdopen(reports) as lines:
            for line in lines:
                number, _, address = line.strip().partition(" ")
                if address:
                    self._addresses[int(number)] = address
                else:
                    self._closed.add(int(number))

    def _wait_for(self, number: int, process: int) -> None:
        _, status = os.waitpid(process, 0)
        self._ended.put((number, os.waitstatus_to_exitcode(status)))
        self.changed.set()

    @staticmethod
    def _thread(name: str, target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, name=name, daemon=True).start()
