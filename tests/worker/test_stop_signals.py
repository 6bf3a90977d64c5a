"""Signals that stop a command."""

import os
import signal
import sys
import threading

import pytest
from support.processes.namespaces import needs_namespaces, pid_of_first, start_first
from support.processes.programs import repository_environment
from support.waiting import wait_until

from worker.stop_signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    """Each of them ends the wait and is known to be a signal; afterwards the handlers are restored."""
    inherited = signal.signal(number, signal.SIG_DFL)  # it may be ignored here, as under nohup
    done = threading.Event()
    with stop_signals(done, patient=True) as signalled:
        signal.raise_signal(number)
        assert done.wait(60)
        assert signalled.wait(60)
    assert signal.signal(number, inherited) == signal.SIG_DFL


def test_a_signal_that_interrupts_the_wait_itself_does_no_harm() -> None:
    """The main thread may hold the event's lock when the handler runs, at the beginning and the end of its wait."""
    done = threading.Event()
    with stop_signals(done, patient=True):
        with done._cond:
            signal.raise_signal(signal.SIGTERM)
        assert done.wait(60)


def test_a_signal_that_another_thread_gets_ends_the_wait() -> None:
    """Such a signal doesn't interrupt the main thread's wait, nor does one that arrives just before the wait."""
    done = threading.Event()

    def send() -> None:
        wait_until(lambda: done._cond._waiters)  # type: ignore[attr-defined]
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    with stop_signals(done, patient=True) as signalled:
        sender = threading.Thread(target=send)
        sender.start()
        assert done.wait(60)
        sender.join()
    assert signalled.is_set()


def test_an_end_without_a_signal_is_known() -> None:
    """It isn't mistaken for one."""
    done = threading.Event()
    with stop_signals(done) as signalled:
        done.set()
    assert not signalled.is_set()


@pytest.mark.parametrize("patient", [False, True])
def test_the_second_signal_has_its_usual_effect_unless_patient(patient: bool) -> None:
    """After the first one the default handlers are back; a patient command keeps its own."""
    done = threading.Event()
    inherited = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with stop_signals(done, patient=patient):
        signal.raise_signal(signal.SIGTERM)
        assert done.wait(60)
        assert all((signal.getsignal(each) == signal.SIG_DFL) != patient for each in (signal.SIGTERM, signal.SIGINT))
    signal.signal(signal.SIGTERM, inherited)


def test_nohup_is_respected() -> None:
    """A SIGHUP that is ignored stays ignored."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    done = threading.Event()
    with stop_signals(done, patient=True):
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert not done.is_set()
    signal.signal(signal.SIGHUP, inherited)


@needs_namespaces
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_process_of_a_container_ends_too(number: signal.Signals) -> None:
    """The kernel protects it from signals without a handler: before the handlers are there, and after the first signal."""
    program = """
import select, signal, sys, threading, time
from worker.stop_signals import end_at_signals, stop_signals
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # some may be ignored here, as in a shell's background
end_at_signals()
print("loading", flush=True)
while not select.select([sys.stdin], [], [], 0.05)[0]:  # Python runs no handler during a wait that a signal just preceded
    pass
if input():
    done = threading.Event()
    with stop_signals(done):
        print("running", flush=True)
        done.wait(60)
        print("stopping", flush=True)
        time.sleep(60)
"""
    for loads in (True, False):
        with start_first([sys.executable, "-c", program], repository_environment()) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "loading\n"
            if not loads:
                process.stdin.write("go\n")
                process.stdin.flush()
                assert process.stdout.readline() == "running\n"
                os.kill(pid_of_first(process), number)
                assert process.stdout.readline() == "stopping\n"
            os.kill(pid_of_first(process), number)
            assert process.wait(60) == 128 + number
