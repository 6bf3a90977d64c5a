"""How signals reach a command."""

import signal
import threading

import pytest
from support.waiting import wait_until

from worker.stop_signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    """Each of them ends the wait, and says that it was a signal; the handlers are put back."""
    inherited = signal.signal(number, signal.SIG_DFL)  # it may be ignored here, as under nohup
    done = threading.Event()
    with stop_signals(done, patient=True) as signalled:
        signal.raise_signal(number)
        assert done.wait(60)
        assert signalled.wait(60)
    assert signal.signal(number, inherited) == signal.SIG_DFL


def test_a_signal_that_interrupts_the_wait_itself_does_no_harm() -> None:
    """The main thread may hold the event's lock when the handler runs: at the begin and at the end of its wait."""
    done = threading.Event()
    with stop_signals(done, patient=True):
        with done._cond:
            signal.raise_signal(signal.SIGTERM)
        assert done.wait(60)


def test_a_signal_that_another_thread_gets_ends_the_wait() -> None:
    """The main thread's wait isn't interrupted then, as it isn't by a signal on the way into it."""
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


def test_without_a_signal_nothing_is_said() -> None:
    """An end of its own isn't taken for a signal."""
    done = threading.Event()
    with stop_signals(done) as signalled:
        done.set()
    assert not signalled.is_set()
