"""Lines that native libraries write to standard error, as log lines in JSON.

TensorFlow Lite, libjpeg, libpng, OpenCV, FFmpeg and gRPC write to descriptor 2 themselves, past Python's logging. So the
descriptor is led into a pipe, and a process of its own turns what comes out of it into JSON. The log keeps the real standard
error.

Why a process and not a thread: what a library writes before it aborts the process, and what faulthandler and the interpreter
write after that, is still read. And a library that writes more than a pipe holds while it has the interpreter's lock would
wait for a thread that waits for the lock.
"""

import array
import atexit
import contextlib
import faulthandler
import fcntl
import gc
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Final

from process import logs

LONGEST_LINE: Final = 1000
"""Longer lines are divided, so that each fits into one write to a pipe, which isn't mixed with the program's own."""

_READ_SIZE: Final = 65536
_ENDS_WITHIN_S: Final = 1.0
"""How long the end of the process waits for the last lines. The pipe stays open while a child process has it."""

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_INIT_PID: Final = 1
_KILLED_BY: Final = 128
"""What shells and container engines add to the number of the signal that ended a process."""


def prepare(words: Sequence[str], variables: Mapping[str, str], prefix: str) -> None:
    """Prepares the log as :func:`process.logs.prepare` does, and captures lines if they are to be JSON.

    Before a program reads its settings, since the other process keeps the memory that this one has by then.

    Args:
        words: the arguments of the program.
        variables: the environment.
        prefix: that of the program's variables.
    """
    logs.prepare(words, variables, prefix)
    capture("json" if logs.in_json() else "text")


def capture(log_format: logs.LogFormat) -> None:
    """Turns what is written to descriptor 2 into JSON, until the process ends; does nothing if the log is text or closed.

    Call it after :func:`process.logs.set_up`, and before the libraries are imported. No thread may run yet. In the first
    process of a container this returns in a child process, since the kernel ends all others when that process ends.

    In either format a crash of a library leaves a trace of where the program was.
    """
    if sys.__stderr__ is None:
        return
    faulthandler.enable(2)
    if log_format != "json":
        return
    sys.stderr.flush()
    real = os.dup(2)
    source, sink = os.pipe()
    if os.getpid() == _INIT_PID:
        _fork_program(source, sink, real)
    else:
        _fork_relay(source, sink, real)
    os.close(source)
    os.dup2(sink, 2)
    os.close(sink)
    logs.redirect(os.fdopen(real, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
    atexit.register(_wait_until_read)


def _wait_until_read() -> None:
    """Waits until the other process has read what was written, so that it isn't the last to write to a terminal or a file."""
    deadline = time.monotonic() + _ENDS_WITHIN_S
    unread = array.array("i", [1])
    with contextlib.suppress(OSError):  # descriptor 2 was closed
        while unread[0] and time.monotonic() < deadline:
            fcntl.ioctl(2, termios.FIONREAD, unread)
            time.sleep(0.002 if unread[0] else 0.0)


def _fork_relay(source: int, sink: int, real: int) -> None:
    """Forks the relay, which copies lines until all writers are gone."""
    if os.fork() == 0:
        try:
            gc.disable()
            for number in _STOP_SIGNALS:  # they are for the program, which ends the relay by its own end
                signal.signal(number, signal.SIG_IGN)
            os.close(sink)
            _let_go_of_all_but(source, real)
            copy_lines(0, 1)
        finally:
            os._exit(0)


def _fork_program(source: int, sink: int, real: int) -> None:
    """Forks the program, and returns there. This process is the relay, passes signals on, and ends as the program does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)  # until they can be passed on
    program = os.fork()
    if program == 0:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)  # else Ctrl-C would reach it twice
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        return
    code = 1
    try:
        gc.disable()
        os.close(sink)
        _let_go_of_all_but(source, real)
        code = _stand_in_for(program)
    finally:
        os._exit(code)


def _let_go_of_all_but(source: int, real: int) -> None:
    """Makes two descriptors 0 and 1. Nothing else that the program holds is to stay open because of the relay."""
    os.dup2(source, 0)
    os.dup2(real, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _stand_in_for(program: int) -> int:
    """Copies lines and passes signals on until the program ends; returns the exit code for its end.

    Also collects what the kernel gives to the first process: children whose parents are gone.
    """

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, number)

    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in _STOP_SIGNALS:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    lines = _Lines(1)
    code = None
    while code is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, _READ_SIZE)
        if 0 in ready:
            lines.add(os.read(0, _READ_SIZE))
        code = _end_of(program)
    deadline = time.monotonic() + _ENDS_WITHIN_S
    while select.select([0], [], [], max(0.0, deadline - time.monotonic()))[0] and (data := os.read(0, _READ_SIZE)):
        lines.add(data)
    lines.end()
    return code


def _end_of(program: int) -> int | None:
    """Collects children that have ended; returns the exit code if the program is one of them, as a shell tells it."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == program:
                code = os.waitstatus_to_exitcode(ended[1])
                return code if code >= 0 else _KILLED_BY - code
    except ChildProcessError:
        return 1
    return None


def copy_lines(source: int, target: int) -> None:
    """Copies lines from a descriptor to another one, as JSON, until the end."""
    lines = _Lines(target)
    while data := os.read(source, _READ_SIZE):
        lines.add(data)
    lines.end()


class _Lines:
    """Writes bytes, which come in any pieces, as lines of JSON."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._rest = b""

    def add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._write(line)
        while len(self._rest) > LONGEST_LINE:
            self._write(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]

    def end(self) -> None:
        self._write(self._rest)

    def _write(self, line: bytes) -> None:
        for start in range(0, len(line), LONGEST_LINE):
            if text := line[start : start + LONGEST_LINE].decode(errors="backslashreplace").strip():
                # If nobody reads the log any more, the program still goes on.
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._target, logs.foreign_line(text).encode())
