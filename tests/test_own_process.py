"""What would end the process that runs the tests is refused, and reported as the failure of a test."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from support.processes import own_process
from support.processes.programs import REPOSITORY


@pytest.fixture
def refused() -> Iterator[list[str]]:
    """What was refused in this test, which then counts as expected."""
    yield own_process.refused
    own_process.refused.clear()


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "SIGTERM without a handler"),
        (lambda: os.kill(os.getpid(), 9), "SIGKILL without a handler"),
        (lambda: os.kill(0, signal.SIGINT), "SIGINT without a handler"),
        (lambda: os.killpg(0, signal.SIGHUP), "SIGHUP without a handler"),
        (lambda: signal.raise_signal(signal.SIGTERM), "SIGTERM without a handler"),
        (lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM), "SIGTERM without a handler"),
        (lambda: os._exit(0), r"os\._exit\(0\)"),
        (lambda: os.abort(), r"os\.abort\(\)"),
    ],
)
def test_ends_of_this_process_are_refused(refused: list[str], end: Callable[[], None], said: str) -> None:
    """Each is an error where it is called, and remembered with the name of the test."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    with pytest.raises(AssertionError, match=f"{said}, which would end the process"):
        end()
    signal.signal(signal.SIGHUP, before)
    (noted,) = refused
    assert "test_ends_of_this_process_are_refused" in noted


def test_an_exception_that_nobody_notices_is_remembered(refused: list[str]) -> None:
    """Such as one in a thread, or one that the code under test handles as any other."""

    def end() -> None:
        with contextlib.suppress(AssertionError):
            os._exit(1)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert refused


def test_what_does_no_harm_is_done() -> None:
    """A signal with a handler, the question whether a process exists, and signals to other processes."""
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    os.kill(os.getpid(), 0)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        os.kill(other.pid, signal.SIGTERM)
    assert (got, other.returncode) == ([signal.SIGTERM] * 2, -signal.SIGTERM)


def test_a_fork_may_end_as_it_likes() -> None:
    """Only this process is protected."""
    gc.disable()  # objects of gRPC that are freed in a fork wait, for ever, for threads that only its parent has
    try:
        child = os.fork()
        if not child:
            os._exit(7)
    finally:
        gc.enable()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_end_by_another_process_leaves_the_stacks() -> None:
    """Which tell what this process was doing."""
    program = (
        "import signal, sys, time; sys.path[:0] = ['tests']; from support.processes import own_process\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "for _ in range(2): own_process.tell_signals_from_others(2)\n"
        "def the_test(): print('there', flush=True); time.sleep(600)\n"
        "the_test()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        _, error = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGTERM
    assert "in the_test" in error
