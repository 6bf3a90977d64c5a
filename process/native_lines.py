"""Lines that native libraries write to standard error, as log lines in JSON.

TensorFlow Lite, libjpeg, libpng, OpenCV and FFmpeg write to descriptor 2 themselves, past Python's logging. So the descriptor
is led into a pipe, and a process of its own turns what comes out of it into JSON. The log keeps the real standard error.

Why a process and not a thread: what a library writes before it aborts the process, and what faulthandler and the interpreter
write after that, is still read. And a library that writes more than a pipe holds while it has the interpreter's lock would
wait for a thread that waits for the lock.
"""

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Final

from process import logs

LONGEST_LINE: Final = 1000
"""Longer lines are divided, so that each fits into one write to a pipe, which isn't mixed with the program's own."""

_READ_SIZE: Final = 65536
_ENDS_WITHIN_S: Final = 1.0
"""How long the end of the process waits for the last lines. The pipe stays open while a child process has it."""

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_INIT_PID: Final = 1


@contextlib.contextmanager
def captured(log_format: logs.LogFormat) -> Iterator[None]:
    """Turns what is written to descriptor 2 into JSON while a block runs; does nothing if the log is text, or if it is closed.

    Call it after :func:`process.logs.set_up`, and before the libraries are imported. No thread may run yet.
    """
    if log_format != "json" or sys.__stderr__ is None:
        yield
        return
    sys.stderr.flush()
    real = os.dup(2)
    source, sink = os.pipe()
    relay = os.fork()
    if relay == 0:
        os.close(sink)
        _relay(source, real)
    os.close(source)
    os.dup2(sink, 2)
    os.close(sink)
    if os.getpid() == _INIT_PID:
        # When the first process of a container ends, the kernel ends the others at once. So a trace goes past the relay.
        faulthandler.enable(real)
    with os.fdopen(real, "w", encoding="utf-8", errors="backslashreplace") as stream:
        before = logs.redirect(stream)
        try:
            yield
        finally:
            logs.redirect(before)
            faulthandler.enable(2)
            os.dup2(real, 2)
            _wait_for(relay)


def _wait_for(process: int) -> None:
    deadline = time.monotonic() + _ENDS_WITHIN_S
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(process, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.002)


def _relay(source: int, real: int) -> None:
    """Is the relay's process: copies lines until all writers are gone."""
    try:
        gc.disable()
        for number in _STOP_SIGNALS:  # they are for the program, which ends the relay by its own end
            signal.signal(number, signal.SIG_IGN)
        # Nothing that the program holds is to stay open because of the relay.
        os.dup2(source, 0)
        os.dup2(real, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        copy_lines(0, 1)
    finally:
        os._exit(0)


def copy_lines(source: int, target: int) -> None:
    """Copies lines from a descriptor to another one, as JSON, until the end."""
    rest = b""
    while data := os.read(source, _READ_SIZE):
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            _write(target, line)
        while len(rest) > LONGEST_LINE:
            _write(target, rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
    _write(target, rest)


def _write(target: int, line: bytes) -> None:
    for start in range(0, len(line), LONGEST_LINE):
        if text := line[start : start + LONGEST_LINE].decode(errors="backslashreplace").strip():
            os.write(target, logs.foreign_line(text).encode())
