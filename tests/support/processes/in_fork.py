"""Runs a function in a fork of this process: a process of its own that needn't import torch again, which takes seconds."""

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn

DEADLINE_S = 120.0
"""Far above what a test does; a loaded machine must not fail it."""


def in_fork(work: Callable[[], object]) -> "subprocess.CompletedProcess[str]":
    """Returns the exit code and the output of a process that does the work, and ends as an interpreter does: after its threads.

    Only the calling thread exists in the fork. So the work mustn't use what other threads of this process may be using now,
    such as gRPC, and torch must be set to one thread, because a fork hasn't the others that it used before.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on for a process with threads, see above
        gc.disable()
        try:
            process = os.fork()
            if not process:
                _do(work, output.fileno(), error.fileno())
        finally:
            gc.enable()
        code = _wait(process)
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess([repr(work)], code, *texts)


def _do(work: Callable[[], object], output: int, error: int) -> NoReturn:
    code = 1
    try:
        gc.freeze()  # objects of gRPC that are freed in a fork wait, for ever, for threads that only its parent has
        gc.enable()
        os.dup2(output, 1)
        os.dup2(error, 2)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(process: int) -> int:
    ended = os.pidfd_open(process)
    try:
        readable, _, _ = select.select([ended], [], [], DEADLINE_S)
        if not readable:
            os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    finally:
        os.close(ended)
